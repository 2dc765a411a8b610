"""Facts of one image file: format, size, hashes, thumbnail, damage.

Signatures: ITU-T T.81 (JPEG), PNG specification, GIF89a, WebP container specification, TIFF 6.0, BITMAPFILEHEADER, and
ISO/IEC 14496-12 file-type brands of AVIF and HEIC.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import cv2
import imagehash
import numpy as np
from PIL import Image

from edge_runtime.contract import Crop, InputSpec
from edge_runtime.errors import ImageError
from edge_runtime.platform.process import core_count
from edge_runtime.preprocess import MAX_FILE_BYTES, ImageU8, decode_image, prepare
from edge_runtime.strict import open_regular

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
THUMB_SIDE_PX = 16
NOT_AN_IMAGE = "is not an image: its content is of no known image format"
TRUNCATED = "is truncated: the file ends before the image does"
_HASH_BLOCK_BYTES = 1 << 20
_THUMB_BYTES = THUMB_SIDE_PX * THUMB_SIDE_PX * 3
# Four pixels per thumbnail pixel and two per pixel of the perceptual hash: both shrink by whole factors, which is exact
# on every machine, and a photo is shrunk from full size only once.
_SMALL = InputSpec(height=64, width=64, crop=Crop.STRETCH)
_HASHED_SIDE_PX = 32
_JSON_VERSION = 1
_COLUMNS = ["sha256", "size_bytes", "format", "width_px", "height_px", "phash", "thumb_rgb_u8", "problem"]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def image_format(data: bytes) -> str:
    """Detect the format by content: jpeg, png, gif, webp, bmp, tiff, avif, heic, or an empty string."""
    for signature, name in _SIGNATURES:
        if data.startswith(signature):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    if data[4:8] == b"ftyp":
        return _BRANDS.get(data[8:12], "avif" if b"avif" in data[8:64] else "")
    return ""


def has_wrong_suffix(path: Path, format_name: str) -> bool:
    """Tell whether the suffix belongs to another format than the content; False for unknown formats."""
    return format_name in _SUFFIXES and path.suffix.lower() not in _SUFFIXES[format_name]


def is_cut_short(data: bytes, format_name: str) -> bool:
    """Tell whether the end mark of the format is missing; meant for files that cannot be decoded."""
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


@dataclass(frozen=True)
class Facts:
    """Properties of the content of one file.

    Attributes:
        sha256: SHA-256 of the whole file; empty if it cannot be read.
        size_bytes: Size of the file in bytes.
        format: Format by content, see `image_format`; empty if unknown.
        width_px, height_px: Size after decoding and EXIF orientation; 0 if not decodable.
        phash: Perceptual hash of 64 bits (ImageHash's ``phash``); 0 if not decodable.
        thumb_rgb_u8: Thumbnail of 16 x 16 x 3 bytes, RGB, row by row; empty if not decodable.
        problem: Reason why the file is unusable, as a predicate after its name; empty if usable.
    """

    sha256: str
    size_bytes: int
    format: str
    width_px: int
    height_px: int
    phash: int
    thumb_rgb_u8: bytes
    problem: str

    @classmethod
    def unusable(cls, sha256: str, problem: str, *, size: int = 0, format_name: str = "") -> Facts:
        """Make the facts of an unusable file."""
        return cls(sha256, size, format_name, 0, 0, 0, b"", problem)


def examine(path: Path, data: bytes | None = None) -> tuple[Facts, ImageU8 | None]:
    """Read, hash and decode one file once. A bad file gives facts with a problem, never an error.

    Args:
        path: Path of the file.
        data: Content of the file, if already read.

    Returns:
        Facts, and the full image, uint8 [h, w, 3] RGB, or None if ``Facts.problem`` is set.
    """
    if data is None:
        try:
            data, sha256, size = _read(path)
        except OSError as error:
            return Facts.unusable("", f"cannot be read ({error.strerror})"), None
    else:
        sha256, size = hashlib.sha256(data).hexdigest(), len(data)
    format_name = image_format(data)
    try:
        image = decode_image(data)
    except ImageError as error:
        problem = _explain(str(error), data, format_name)
        return Facts.unusable(sha256, problem, size=size, format_name=format_name), None
    small = prepare(image, _SMALL)
    height, width = image.shape[:2]
    return Facts(sha256, size, format_name, width, height, _phash(small), _thumb(small), ""), image


def facts_to_json(facts: Sequence[Facts]) -> str:
    """Write facts as JSON, which `facts_from_json` reads back."""
    texts = [(f"{entry.phash:016x}", base64.b64encode(entry.thumb_rgb_u8).decode()) for entry in facts]
    rows = [
        [entry.sha256, entry.size_bytes, entry.format, entry.width_px, entry.height_px, *text, entry.problem]
        for entry, text in zip(facts, texts, strict=True)
    ]
    return json.dumps({"version": _JSON_VERSION, "columns": _COLUMNS, "rows": rows}, separators=(",", ":"))


def facts_from_json(text: str) -> list[Facts]:
    """Read facts written by `facts_to_json`.

    Raises:
        ValueError: The text is damaged or of another version.
    """
    data = json.loads(text)
    expected = {"version": _JSON_VERSION, "columns": _COLUMNS}
    if not isinstance(data, dict) or not isinstance(rows := data.pop("rows", None), list) or data != expected:
        raise ValueError(f"expected rows of facts of version {_JSON_VERSION}")
    return [_facts_of_row(row) for row in rows]


def _facts_of_row(row: Any) -> Facts:
    kinds = [str, int, str, int, int, str, str, str]
    if not isinstance(row, list) or [type(value) for value in row] != kinds:
        raise ValueError(f"expected the fields {', '.join(_COLUMNS)}, got {str(row)[:100]}")
    sha256, size, format_name, width, height, phash, thumb, problem = row
    thumb_rgb_u8 = base64.b64decode(thumb, validate=True)
    if len(thumb_rgb_u8) != (0 if problem else _THUMB_BYTES) or len(phash) != 16:
        raise ValueError(f"{sha256}: expected a thumbnail of {_THUMB_BYTES} bytes and a hash of 16 digits")
    return Facts(sha256, size, format_name, width, height, int(phash, 16), thumb_rgb_u8, problem)


def in_parallel(
    function: Callable[[_Item], _Result], items: Sequence[_Item], progress: Callable[[int], None] | None = None
) -> list[_Result]:
    """Apply a function to all items in one thread per core, in order; ``progress`` is called with 1 after each."""
    results = []
    with ThreadPoolExecutor(core_count()) as pool:
        try:
            for result in pool.map(function, items):
                results.append(result)
                if progress:
                    progress(1)
        except BaseException:
            # On Ctrl-C cancel the items that are still queued.
            pool.shutdown(cancel_futures=True)
            raise
    return results


def _explain(problem: str, data: bytes, format_name: str) -> str:
    """Explain a decoding error by the content of the file; errors about limits are complete already."""
    if not problem.startswith(("is not an image", "cannot be decoded")):
        return problem
    if not format_name:
        return NOT_AN_IMAGE
    if format_name == "heic":
        return "is a HEIC image, which is not supported: convert it to JPEG"
    return TRUNCATED if is_cut_short(data, format_name) else problem


def _read(path: Path) -> tuple[bytes, str, int]:
    """Read the content, up to one byte over the limit for decoding, with SHA-256 and size of the whole file."""
    with open_regular(path) as file:
        data = file.read(MAX_FILE_BYTES + 1)
        digest = hashlib.sha256(data)
        size = len(data)
        while block := file.read(_HASH_BLOCK_BYTES):
            digest.update(block)
            size += len(block)
    return data, digest.hexdigest(), size


def _phash(small_hwc_rgb_u8: ImageU8) -> int:
    grey = cv2.cvtColor(small_hwc_rgb_u8, cv2.COLOR_RGB2GRAY)
    grey = cv2.resize(grey, (_HASHED_SIDE_PX, _HASHED_SIDE_PX), interpolation=cv2.INTER_AREA)
    bits = imagehash.phash(Image.fromarray(grey)).hash
    return int.from_bytes(np.packbits(bits.flatten()).tobytes(), "big")


def _thumb(small_hwc_rgb_u8: ImageU8) -> bytes:
    return cv2.resize(small_hwc_rgb_u8, (THUMB_SIDE_PX, THUMB_SIDE_PX), interpolation=cv2.INTER_AREA).tobytes()
