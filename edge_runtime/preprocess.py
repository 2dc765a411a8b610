"""Decode, orient, crop and resize images: the one implementation for training, calibration, checks and the device.

Every file is hostile until its structure is checked: kind by its first bytes, size in the header, lengths of PNG
chunks, scans of a JPEG. Native code that has crashed on damaged files (animations, GIF, TIFF, AVIF, compressed BMP)
runs in a process of its own, `edge_runtime.decoder_process`. OpenCV has a limit of pixels too, but reads it from the
environment once, when it is first imported, which may be before edgekit is. Sources: the PNG specification, third
edition (chunks, IHDR, acTL), GIF89a (logical screen descriptor), BITMAPCOREHEADER and BITMAPINFOHEADER, the WebP
container specification with VP8 (RFC 6386) and VP8L (RFC 9649), and ITU-T T.81 (JPEG frame and scan headers).

Every step is bit-identical on x86-64 and Arm (OpenCV 4.11 and 5.0, measured over real photos): JPEG decoding at
full scale, ``INTER_AREA`` by an integer factor, and ``INTER_LINEAR_EXACT``. ``INTER_AREA`` by a fraction and plain
``INTER_LINEAR`` are not, so an image is first shrunk by the largest integer factor and then resized exactly.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.contract import Crop, InputSpec
from edge_runtime.errors import ImageError
from edge_runtime.image_files import BIN_SUFFIX, NPY_MAGIC, parse_bin, parse_npy

ImageU8: TypeAlias = NDArray[np.uint8]
"""uint8 [height, width, 3], RGB, 0..255."""

MAX_FILE_BYTES = 128 << 20
MAX_PIXELS = int(os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"])
"""Maximum pixels of an image, 33 million by default; fewer for images of more than three bytes a pixel."""

_LETTERBOX_GREY = 128
_PAPER_WHITE = 255
_BAND_ROWS = 64

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_HEADER_BYTES = 26
_PNG_ANIMATION = frozenset({b"acTL", b"fcTL", b"fdAT"})
_MAX_PNG_CHUNKS = 100_000
# Channels by colour type; a palette may hold alpha.
_PNG_CHANNELS = {0: 1, 2: 3, 3: 4, 4: 4, 6: 4}
# SOF0 to SOF15 without DHT (C4), JPG (C8) and DAC (CC).
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
_JPEG_SCAN = 0xDA
# Encoders write about ten; each costs a pass over the whole image.
_MAX_JPEG_SCANS = 100
_AVIF_HEADER_BYTES = 1 << 14
_ISO_BRANDS = frozenset({b"avif", b"avis", b"mif1", b"msf1", b"miaf", b"MA1A", b"MA1B"})


def load_image(path: Path) -> ImageU8:
    """Read and decode one image file: uint8 [height, width, 3], RGB, oriented by EXIF.

    Raises:
        ImageError: The file cannot be read, is too large, or is not a whole image.
    """
    return decode_image(_read_file(path))


def decode_image(data: bytes) -> ImageU8:
    """Decode one image from memory; of an animation, the first frame.

    Grey, palette, CMYK and 16-bit images become 8-bit RGB. Transparency is laid over white, as on a page; such an
    image (PNG, WebP, GIF) keeps its stored orientation, because OpenCV gives alpha only without EXIF.

    Args:
        data: Content of a whole file: JPEG, PNG, WebP, BMP, GIF, TIFF or AVIF, as far as the installed OpenCV reads
            them; or a ``.npy`` file of one image.

    Returns:
        uint8 [height, width, 3], RGB, oriented by EXIF.

    Raises:
        ImageError: Empty, too large, truncated, or not an image.
    """
    if not data:
        raise ImageError("expected an image, got an empty file")
    if len(data) > MAX_FILE_BYTES:
        raise ImageError(f"expected at most {MAX_FILE_BYTES >> 20} MiB, got more")
    if data.startswith(NPY_MAGIC):
        return parse_npy(data, MAX_PIXELS)
    width, height = read_size_wh(data) or (0, 0)
    most = MAX_PIXELS * 3 // max(3, _decoded_bytes_per_pixel(data))
    if width * height > most:
        raise ImageError(
            f"expected at most {most / 1e6:.0f} million pixels, got {width}x{height}; shrink it, "
            "or set OPENCV_IO_MAX_IMAGE_PIXELS where there is memory for more"
        )
    data = check_structure(data)
    if _is_decoded_apart(data):
        # Imported here because most runs see no such file.
        from edge_runtime.decoder_process import decode_apart

        return decode_apart(data, MAX_PIXELS)
    return decode_here(data)


def decode_here(data: bytes) -> ImageU8:
    """Decode one image in this process: uint8 [height, width, 3] RGB; `decode_image` checks it first.

    Raises:
        ImageError: OpenCV cannot decode it.
    """
    buffer = np.frombuffer(data, np.uint8)
    try:
        if may_have_alpha(data):
            stored = cv2.imdecode(buffer, cv2.IMREAD_UNCHANGED)
            if stored is not None and stored.ndim == 3 and stored.shape[2] == 4:
                return _over_white(stored)
            del stored  # before the second decoding, which needs its memory
        image = cv2.imdecode(buffer, cv2.IMREAD_COLOR_RGB)
    except cv2.error as error:
        if "CV_IO_MAX_IMAGE" in str(error):
            raise ImageError("has more pixels than OpenCV allows (OPENCV_IO_MAX_IMAGE_PIXELS)") from error
        raise ImageError(f"cannot be decoded ({error.err})") from error
    if image is None:
        raise ImageError("is not an image that OpenCV can decode, or is truncated or damaged")
    return image.astype(np.uint8, copy=False)


def prepare(image_hwc_rgb_u8: ImageU8, spec: InputSpec) -> ImageU8:
    """Crop and resize an image, uint8 [h, w, 3] RGB of any size, to uint8 [spec.height, spec.width, 3] RGB.

    Raises:
        ImageError: The array is not such an image.
    """
    if image_hwc_rgb_u8.dtype != np.uint8 or image_hwc_rgb_u8.ndim != 3 or image_hwc_rgb_u8.shape[2] != 3:
        found = f"{image_hwc_rgb_u8.dtype} {list(image_hwc_rgb_u8.shape)}"
        raise ImageError(f"expected a uint8 [height, width, 3] RGB array, got {found}")
    if 0 in image_hwc_rgb_u8.shape:
        raise ImageError("expected an image with pixels, got an empty array")
    if spec.crop is Crop.LETTERBOX:
        return _letterbox(image_hwc_rgb_u8, spec)
    if spec.crop is Crop.CENTER:
        image_hwc_rgb_u8 = _center_region(image_hwc_rgb_u8, spec)
    return _resize(image_hwc_rgb_u8, spec.height, spec.width)


def load_prepared(path: Path, spec: InputSpec) -> ImageU8:
    """Read, decode, crop and resize one image file: uint8 [spec.height, spec.width, 3], RGB.

    A ``.bin`` file is the model's input already: see `edge_runtime.image_files`.

    Raises:
        ImageError: As `load_image`, or a ``.bin`` file of another size.
    """
    if path.suffix.lower() == BIN_SUFFIX:
        return parse_bin(_read_file(path), spec)
    return prepare(load_image(path), spec)


def bgr_to_rgb(frame_hwc_bgr_u8: ImageU8) -> ImageU8:
    """Turn a frame of ``cv2.VideoCapture`` (BGR) into RGB, same shape."""
    return cv2.cvtColor(frame_hwc_bgr_u8, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)


def _read_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            # Not MAX_FILE_BYTES at once: room for so many would be mapped and unmapped for every image.
            size = os.fstat(file.fileno()).st_size or MAX_FILE_BYTES
            return file.read(min(size, MAX_FILE_BYTES) + 1)
    except OSError as error:
        raise ImageError(f"cannot be read ({error.strerror})") from error


def _over_white(stored: NDArray[np.generic]) -> ImageU8:
    """Lay BGRA (8 or 16 bits) over white, in integers: round(color * alpha + white * (1 - alpha))."""
    image: ImageU8 = np.empty((*stored.shape[:2], 3), np.uint8)
    # In bands, because the sums need four times the bytes of the image.
    for top in range(0, len(stored), _BAND_ROWS):
        band = stored[top : top + _BAND_ROWS]
        bgra = band if band.dtype == np.uint8 else (band.astype(np.uint32) >> 8).astype(np.uint8)
        alpha = bgra[:, :, 3:].astype(np.uint32)
        color = bgra[:, :, 2::-1].astype(np.uint32)
        image[top : top + _BAND_ROWS] = (color * alpha + _PAPER_WHITE * (255 - alpha) + 127) // 255
    return image


def _center_region(image: ImageU8, spec: InputSpec) -> ImageU8:
    """The centred region of the model's aspect ratio, times ``crop_fraction``, in whole pixels."""
    height, width = image.shape[:2]
    # Compare height / width with spec.height / spec.width in integers: no rounding that differs by machine.
    if height * spec.width > width * spec.height:
        region_h, region_w = width * spec.height // spec.width, width
    else:
        region_h, region_w = height, height * spec.width // spec.height
    region_h = max(1, int(region_h * spec.crop_fraction))
    region_w = max(1, int(region_w * spec.crop_fraction))
    top, left = (height - region_h) // 2, (width - region_w) // 2
    return image[top : top + region_h, left : left + region_w]


def _resize(image: ImageU8, height: int, width: int) -> ImageU8:
    """Shrink by the largest integer factor per axis, then ``INTER_LINEAR_EXACT``."""
    factor_y, factor_x = max(1, image.shape[0] // height), max(1, image.shape[1] // width)
    if factor_y > 1 or factor_x > 1:
        # Only a size that the factor divides takes OpenCV's integer path: trim the remainder on both sides.
        rows, columns = image.shape[0] // factor_y, image.shape[1] // factor_x
        top, left = image.shape[0] % factor_y // 2, image.shape[1] % factor_x // 2
        trimmed = image[top : top + rows * factor_y, left : left + columns * factor_x]
        image = _as_u8(cv2.resize(trimmed, (columns, rows), interpolation=cv2.INTER_AREA))
    if image.shape[:2] != (height, width):
        image = _as_u8(cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR_EXACT))
    return np.ascontiguousarray(image)


def _letterbox(image: ImageU8, spec: InputSpec) -> ImageU8:
    """Fit the whole image into the input and centre it on grey."""
    height, width = image.shape[:2]
    if height * spec.width > width * spec.height:
        fit_h, fit_w = spec.height, max(1, width * spec.height // height)
    else:
        fit_h, fit_w = max(1, height * spec.width // width), spec.width
    canvas = np.full(spec.shape_hwc, _LETTERBOX_GREY, np.uint8)
    top, left = (spec.height - fit_h) // 2, (spec.width - fit_w) // 2
    canvas[top : top + fit_h, left : left + fit_w] = _resize(image, fit_h, fit_w)
    return canvas


def _as_u8(array: NDArray[np.generic]) -> ImageU8:
    return array.astype(np.uint8, copy=False)


def check_structure(data: bytes) -> bytes:
    """Check an image file before native code reads it: its kind, lengths of PNG chunks, number of JPEG scans.

    Returns:
        The file itself, or a PNG without its animation chunks, which is the still image.

    Raises:
        ImageError: Not a JPEG, PNG, WebP, BMP, GIF, TIFF or AVIF file, or one whose structure is damaged or excessive.
    """
    if data.startswith(_PNG):
        return _still_png(data)
    if data.startswith(b"\xff\xd8"):
        _check_scans(data)
    elif not (
        data.startswith((b"GIF87a", b"GIF89a", b"BM", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"))
        or (data.startswith(b"RIFF") and data[8:12] == b"WEBP")
        or (data[4:8] == b"ftyp" and not _ISO_BRANDS.isdisjoint(_brands(data)))
    ):
        raise ImageError("is not an image (expected JPEG, PNG, WebP, BMP, GIF, TIFF or AVIF), or is damaged")
    return data


def read_size_wh(data: bytes) -> tuple[int, int] | None:
    """Read width and height in pixels from the header; None for an unknown format or a damaged header."""
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
        if data[4:8] == b"ftyp":
            return _avif(data)
    except (struct.error, IndexError):
        return None
    return None


def _decoded_bytes_per_pixel(data: bytes) -> int:
    """Bytes a pixel while a PNG or AVIF is decoded; 0 for other files.

    Of a PNG by bit depth and colour type; of an AVIF as if 5, because its planes and their copies take 18 in all.
    """
    if data[4:8] == b"ftyp":
        return 5
    if not data.startswith(_PNG) or len(data) < _PNG_HEADER_BYTES:
        return 0
    return _PNG_CHANNELS.get(data[25], 4) * (2 if data[24] == 16 else 1)


def may_have_alpha(data: bytes) -> bool:
    """Tell by the header whether an image may have transparent pixels; True unless the header rules it out.

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
    for marker, offset in _jpeg_segments(data):
        if marker in _JPEG_FRAMES:
            height, width = _pair(data, ">HH", offset + 5)
            return width, height
    return None


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield marker and offset of each segment up to the pixels of the first scan."""
    offset, marker = 2, 0
    while marker != _JPEG_SCAN:
        offset = data.find(b"\xff", offset)
        if offset < 0 or offset + 1 == len(data):
            return
        marker = data[offset + 1]
        if marker == 0xFF:  # fill byte
            offset += 1
        elif marker == 0 or marker in _JPEG_WITHOUT_LENGTH:
            offset += 2
        else:
            yield marker, offset
            offset += 2 + struct.unpack_from(">H", data, offset + 2)[0]


def _check_scans(data: bytes) -> None:
    """Raise ImageError for too many scans, each of which costs a pass over all pixels.

    A sequential JPEG whose first scan holds all components ends with it, and is not searched for more.
    """
    marker, components = 0, 0
    try:
        for marker, offset in _jpeg_segments(data):
            if marker in (0xC0, 0xC1):
                components = data[offset + 9]
            elif marker == _JPEG_SCAN and data[offset + 4] == components:
                return
    except (struct.error, IndexError):
        return  # OpenCV finds the end of the file too
    if data.count(b"\xff\xda") > _MAX_JPEG_SCANS:
        raise ImageError(f"expected a JPEG of at most {_MAX_JPEG_SCANS} scans, got more; save it again")


def _still_png(data: bytes) -> bytes:
    """Check the length of each chunk and leave out those of an animation, whose damage has crashed OpenCV."""
    offset, kept, start = len(_PNG), [], 0
    for count in range(_MAX_PNG_CHUNKS):
        end = offset + 12 + int.from_bytes(data[offset : offset + 4], "big")
        kind = data[offset + 4 : offset + 8]
        if end > len(data) or (count == 0) != (kind == b"IHDR") or (count == 0 and end != offset + 25):
            raise ImageError(f"is not an image: chunk {count + 1} of the PNG does not fit; it is truncated or damaged")
        if kind in _PNG_ANIMATION:
            kept.append(data[start:offset])
            start = end
        if kind == b"IEND":
            return b"".join([*kept, data[start:end]]) if kept else data
        offset = end
    raise ImageError(f"expected a PNG of at most {_MAX_PNG_CHUNKS} chunks, got more; save it again")


def _is_decoded_apart(data: bytes) -> bool:
    """Tell whether native code that is less proved than that for JPEG, PNG and still WebP reads the file."""
    if data.startswith(b"BM"):
        return len(data) < 34 or data[14] != 40 or data[30:34] != bytes(4)
    if data.startswith(b"RIFF"):
        return data[12:16] == b"VP8X" and len(data) > 20 and bool(data[20] & 0x02)  # animated
    return not data.startswith((b"\xff\xd8", _PNG))


def _brands(data: bytes) -> set[bytes]:
    """Brands in the file type box of an ISO base media file (ISO/IEC 14496-12)."""
    end = min(int.from_bytes(data[:4], "big"), 256)
    return {data[8:12], *(data[at : at + 4] for at in range(16, end, 4))}


def _bmp(data: bytes) -> tuple[int, int]:
    if struct.unpack_from("<I", data, 14)[0] == 12:
        return _pair(data, "<HH", 18)
    width, height = _pair(data, "<ii", 18)
    return abs(width), abs(height)  # a negative height means that rows run downwards


def _webp(data: bytes) -> tuple[int, int] | None:
    kind = data[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        width, height = _pair(data, "<HH", 26)
        return width & 0x3FFF, height & 0x3FFF
    return None


def _avif(data: bytes) -> tuple[int, int] | None:
    """The largest image spatial extents box (ISO/IEC 23008-12, 6.5.3) of the metadata, which come first."""
    sizes, offset = [], data.find(b"ispe", 0, _AVIF_HEADER_BYTES)
    while offset >= 0:
        sizes.append(_pair(data, ">II", offset + 8))
        offset = data.find(b"ispe", offset + 4, _AVIF_HEADER_BYTES)
    return max(sizes, key=lambda size_wh: size_wh[0] * size_wh[1], default=None)
