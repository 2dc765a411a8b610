"""Tell a picture's format by its first bytes, whatever its file is called, and whether its end is missing.

Signatures: ITU-T T.81 (JPEG), PNG specification, GIF89a, WebP container specification, TIFF 6.0, BITMAPFILEHEADER, and
ISO/IEC 14496-12 file-type brands of AVIF and HEIC.
"""

from __future__ import annotations

from pathlib import Path

_SIGNATURES = (
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"BM", "bmp"),
    (b"II*\x00", "tiff"),
    (b"MM\x00*", "tiff"),
    (b"II+\x00", "tiff"),
    (b"MM\x00+", "tiff"),
)
_BRANDS = {b"avif": "avif", b"avis": "avif"} | dict.fromkeys((b"heic", b"heix", b"hevc", b"heim", b"heis"), "heic")
_SUFFIXES = {
    "jpeg": {".jpg", ".jpeg", ".jpe", ".jfif"},
    "png": {".png", ".apng"},
    "gif": {".gif"},
    "webp": {".webp"},
    "bmp": {".bmp"},
    "tiff": {".tif", ".tiff"},
    "avif": {".avif"},
}
# Cameras append a maker's note or padding after the end of a JPEG.
_END_BYTES = 1 << 16


def picture_format(data: bytes) -> str:
    """One of jpeg, png, gif, webp, bmp, tiff, avif, heic; empty where the content is none of these."""
    for signature, name in _SIGNATURES:
        if data.startswith(signature):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    if data[4:8] == b"ftyp":
        return _BRANDS.get(data[8:12], "avif" if b"avif" in data[8:64] else "")
    return ""


def has_wrong_suffix(path: Path, format_name: str) -> bool:
    """Whether the suffix promises another format than the content has; unknown formats are not judged."""
    return format_name in _SUFFIXES and path.suffix.lower() not in _SUFFIXES[format_name]


def is_cut_short(data: bytes, format_name: str) -> bool:
    """Whether the end mark of the format is missing. Ask only of a file that cannot be decoded."""
    if format_name == "jpeg":
        return b"\xff\xd9" not in data[-_END_BYTES:]
    if format_name == "png":
        return b"IEND" not in data[-_END_BYTES:]
    if format_name == "gif":
        return not data.rstrip(b"\x00").endswith(b";")
    if format_name == "webp":
        return len(data) < 8 + int.from_bytes(data[4:8], "little")
    if format_name == "bmp":
        return len(data) < int.from_bytes(data[2:6], "little")
    return False
