"""Image file types: recognition by name, and raw images (``.npy`` and ``.bin``).

``.npy`` is NumPy's format (https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html), uint8, of the
shape [height, width, 3] in RGB, or [height, width] or [height, width, 1] in grey; it is cropped and resized like any
image. ``.bin`` holds only the bytes of a model's input: uint8, RGB, row by row, exactly height * width * 3 of them;
it is not cropped or resized. Both are read without pickle, and the size in a header is checked first.
"""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_runtime.contract import InputSpec
from edge_runtime.errors import ImageError, shorten

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif"}
)
NPY_MAGIC = b"\x93NUMPY"
BIN_SUFFIX = ".bin"
RAW_SUFFIXES = frozenset({".npy", BIN_SUFFIX})

# NumPy pads a header to a multiple of 64 bytes; that of an image has about 70. A short text cannot nest deep enough
# to trouble Python's parser.
_MAX_HEADER_BYTES = 1024
_HEADER_LENGTH_BYTES = {1: 2, 2: 4, 3: 4}
_UINT8 = ("|u1", "<u1", ">u1", "=u1", "u1")


def is_image_name(path: Path) -> bool:
    """Tell whether a file name has an image suffix."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def is_raw_name(path: Path) -> bool:
    """Tell whether a file name has the suffix of a raw image."""
    return path.suffix.lower() in RAW_SUFFIXES


def is_image_or_raw_name(path: Path) -> bool:
    """Tell whether a file name has the suffix of an image or a raw image."""
    return is_image_name(path) or is_raw_name(path)


def parse_npy(data: bytes, max_pixels: int) -> NDArray[np.uint8]:
    """Read one image of a whole ``.npy`` file to uint8 [height, width, 3], RGB; grey is repeated.

    Raises:
        ImageError: Not a ``.npy`` file, another type or shape, too large, or with missing or extra bytes.
    """
    descr, fortran_order, shape, start = _parse_npy_header(data)
    if descr not in _UINT8:
        raise ImageError(f"expected an array of uint8, got {shorten(repr(descr), 40)}")
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] not in (1, 3)) or 0 in shape:
        expected = "an array [height, width, 3], [height, width, 1] or [height, width] of one image"
        raise ImageError(f"expected {expected}, got {shorten(str(list(shape)), 60)}")
    height, width, channels = (*shape, 1)[:3]
    if height * width > max_pixels:
        raise ImageError(f"expected at most {max_pixels / 1e6:.0f} million pixels, got {width}x{height}")
    if len(data) - start != height * width * channels:
        raise ImageError(
            f"expected {height * width * channels} bytes of pixels after the header, got {len(data) - start}; "
            "the file is truncated or damaged"
        )
    flat = np.frombuffer(data, np.uint8, offset=start)
    pixels = flat.reshape((height, width, channels), order="F" if fortran_order else "C")
    # A copy, because a view of bytes is read-only.
    rgb: NDArray[np.uint8] = np.array(np.broadcast_to(pixels, (height, width, 3)), order="C")
    return rgb


def parse_bin(data: bytes, spec: InputSpec) -> NDArray[np.uint8]:
    """Read one image that is stored as the bytes of the model's input, uint8 [spec.height, spec.width, 3] RGB.

    Raises:
        ImageError: Another number of bytes.
    """
    expected = spec.height * spec.width * 3
    if len(data) != expected:
        raise ImageError(
            f"expected {spec.height}x{spec.width}x3 = {expected} bytes of raw RGB pixels, the size of the model's "
            f"input, got {len(data)}"
        )
    rgb: NDArray[np.uint8] = np.frombuffer(data, np.uint8).reshape(spec.shape_hwc).copy()
    return rgb


def _parse_npy_header(data: bytes) -> tuple[object, bool, tuple[int, ...], int]:
    """Data type, Fortran order, shape and offset of the pixels, all unchecked."""
    length_bytes = _HEADER_LENGTH_BYTES.get(data[6], 0) if len(data) > 7 and data.startswith(NPY_MAGIC) else 0
    if not length_bytes:
        raise ImageError("expected a NumPy .npy file of format 1, 2 or 3, got other bytes")
    length = int.from_bytes(data[8 : 8 + length_bytes], "little")
    start = 8 + length_bytes + length
    if length > _MAX_HEADER_BYTES or start > len(data):
        raise ImageError(
            f"expected a .npy header of at most {_MAX_HEADER_BYTES} bytes, got {length}; it is damaged or truncated"
        )
    try:
        header = ast.literal_eval(data[8 + length_bytes : start].decode("utf-8").strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ImageError(f"its .npy header cannot be read ({type(error).__name__})") from error
    if not isinstance(header, dict) or set(header) != {"descr", "fortran_order", "shape"}:
        raise ImageError("expected a .npy header of descr, fortran_order and shape, got something else")
    shape, fortran_order = header["shape"], header["fortran_order"]
    if not isinstance(shape, tuple) or not all(type(size) is int and size >= 0 for size in shape):
        raise ImageError(f"expected a .npy shape of whole numbers, got {shorten(repr(shape), 60)}")
    if not isinstance(fortran_order, bool):
        raise ImageError(f"expected True or False for fortran_order, got {shorten(repr(fortran_order), 60)}")
    return header["descr"], fortran_order, shape, start
