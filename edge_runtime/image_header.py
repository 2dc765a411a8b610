"""Read a picture's size from its header, so that a bomb is refused before a single pixel is decoded.

OpenCV has such a limit too, but reads it from the environment once, when it is first imported, which may be before
edgekit is. Formats that are not read here (TIFF, AVIF) are left to that limit. Sources: the PNG specification (IHDR),
GIF89a (logical screen descriptor), BITMAPCOREHEADER and BITMAPINFOHEADER, the WebP container specification with VP8
(RFC 6386) and VP8L (RFC 9649), and ITU-T T.81 (JPEG frame header).
"""

from __future__ import annotations

import struct

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_HEADER_BYTES = 26
# Channels by colour type; a palette may hold alpha.
_PNG_CHANNELS = {0: 1, 2: 3, 3: 4, 4: 4, 6: 4}
# SOF0 to SOF15 without DHT (C4), JPG (C8) and DAC (CC).
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})


def read_size_wh(data: bytes) -> tuple[int, int] | None:
    """Width and height in pixels as the header says, or None where the format or the header is not understood."""
    try:
        if data.startswith(b"\xff\xd8"):
            return _jpeg(data)
        if data.startswith(_PNG):
            return _pair(data, ">II", 16)
        if data.startswith((b"GIF87a", b"GIF89a")):
            return _pair(data, "<HH", 6)
        if data.startswith(b"BM"):
            return _bmp(data)
        if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            return _webp(data)
    except (struct.error, IndexError):
        return None
    return None


def png_bytes_per_pixel(data: bytes) -> int:
    """Bytes that a pixel of a PNG takes once decoded, by bit depth and colour type of IHDR; 0 for other files."""
    if not data.startswith(_PNG) or len(data) < _PNG_HEADER_BYTES:
        return 0
    return _PNG_CHANNELS.get(data[25], 4) * (2 if data[24] == 16 else 1)


def may_have_alpha(data: bytes) -> bool:
    """Whether a picture may be transparent somewhere, by its header; True where the header does not rule it out.

    A PNG of colour type 0, 2 or 3 is opaque without a ``tRNS`` chunk, which must come before its pixels. Of WebP only
    the plain lossy kind (``VP8 ``) cannot have alpha, and the extended kind says whether it has.
    """
    if data.startswith(_PNG):
        return len(data) < _PNG_HEADER_BYTES or data[25] not in (0, 2, 3) or _png_has_transparency(data)
    if data.startswith(b"RIFF"):
        return not (data[12:16] == b"VP8 " or (data[12:16] == b"VP8X" and len(data) > 20 and not data[20] & 0x10))
    return data.startswith(b"GIF8")


def _png_has_transparency(data: bytes) -> bool:
    offset = len(_PNG)
    while offset + 8 <= len(data):
        kind = data[offset + 4 : offset + 8]
        if kind == b"IDAT":
            return False
        if kind == b"tRNS":
            return True
        offset += 12 + int.from_bytes(data[offset : offset + 4], "big")
    return True


def _pair(data: bytes, layout: str, offset: int) -> tuple[int, int]:
    first, second = struct.unpack_from(layout, data, offset)
    return int(first), int(second)


def _jpeg(data: bytes) -> tuple[int, int] | None:
    offset = 2
    while True:
        offset = data.find(b"\xff", offset)
        if offset < 0:
            return None
        marker = data[offset + 1]
        if marker == 0xFF:  # fill byte
            offset += 1
        elif marker == 0 or marker in _JPEG_WITHOUT_LENGTH:
            offset += 2
        elif marker in _JPEG_FRAMES:
            height, width = _pair(data, ">HH", offset + 5)
            return width, height
        else:
            offset += 2 + struct.unpack_from(">H", data, offset + 2)[0]


def _bmp(data: bytes) -> tuple[int, int]:
    if struct.unpack_from("<I", data, 14)[0] == 12:
        return _pair(data, "<HH", 18)
    width, height = _pair(data, "<ii", 18)
    return abs(width), abs(height)  # a negative height means that rows run downwards


def _webp(data: bytes) -> tuple[int, int] | None:
    kind = data[12:16]
    if kind == b"VP8X":
        return (
            1 + int.from_bytes(data[24:27], "little"),
            1 + int.from_bytes(data[27:30], "little"),
        )
    if kind == b"VP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        width, height = _pair(data, "<HH", 26)
        return width & 0x3FFF, height & 0x3FFF
    return None
