"""Raw pictures and their labels, as embedded benchmarks keep them: ``.npy`` and ``.bin`` files, and ``y_labels.csv``.

``.npy`` is NumPy's format (https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html), uint8, of the
shape [height, width, 3] in RGB, or [height, width] or [height, width, 1] in grey; it is cropped and resized like any
picture. ``.bin`` is nothing but the bytes of a model's input: uint8, RGB, row by row, exactly height * width * 3 of
them; it is taken as it is. Both are read without pickle, and a size in a header is checked before it is believed.

``y_labels.csv`` is MLPerf Tiny's list of labels: ``file,number of classes,class index`` a line, without a header. The
class indices, as text, are the labels of such a set; `map_index_labels` gives them the model's own names.
"""

from __future__ import annotations

import ast
import csv
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_runtime.contract import InputSpec
from edge_runtime.datasets.samples import MAX_CSV_BYTES, MAX_PICTURES, Sample
from edge_runtime.errors import DatasetError, ImageError
from edge_runtime.labels import shorten

NPY_MAGIC = b"\x93NUMPY"
BIN_SUFFIX = ".bin"
RAW_SUFFIXES = frozenset({".npy", BIN_SUFFIX})
LABELS_CSV = "y_labels.csv"

# NumPy pads a header to a multiple of 64 bytes; that of a picture has about 70. A short text cannot nest deep enough
# to trouble Python's parser.
_MAX_HEADER_BYTES = 1024
_HEADER_LENGTH_BYTES = {1: 2, 2: 4, 3: 4}
_UINT8 = ("|u1", "<u1", ">u1", "=u1", "u1")
_INDEX_LINE = re.compile(r"[^,\r\n]+,[0-9]{1,6},[0-9]{1,6}")
_INDEX = re.compile(r"0|[1-9][0-9]{0,5}")
_MAX_LINE_BYTES = 8192


def is_raw_name(path: Path) -> bool:
    """Whether a file is taken for a raw picture by its suffix."""
    return path.suffix.lower() in RAW_SUFFIXES


def parse_npy(data: bytes, max_pixels: int) -> NDArray[np.uint8]:
    """Read one picture of a ``.npy`` file.

    Args:
        data: The whole file.
        max_pixels: Height times width may be at most this.

    Returns:
        uint8 [height, width, 3], RGB; grey is repeated.

    Raises:
        ImageError: Not such a file, another type or shape, too large, or with bytes missing or left over.
    """
    descr, fortran_order, shape, start = _parse_npy_header(data)
    if descr not in _UINT8:
        raise ImageError(f"expected an array of uint8, got {shorten(repr(descr), 40)}")
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] not in (1, 3)) or 0 in shape:
        raise ImageError(
            "expected an array [height, width, 3], [height, width, 1] or [height, width] of one picture, "
            f"got {shorten(str(list(shape)), 60)}"
        )
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
    # A copy, since what lies over the file's bytes cannot be written to.
    rgb: NDArray[np.uint8] = np.array(np.broadcast_to(pixels, (height, width, 3)), order="C")
    return rgb


def parse_bin(data: bytes, spec: InputSpec) -> NDArray[np.uint8]:
    """Read one picture that is stored as the bytes of the model's input.

    Args:
        data: The whole file.
        spec: Tells the size.

    Returns:
        uint8 [spec.height, spec.width, 3], RGB.

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


def is_index_csv(path: Path) -> bool:
    """Whether a CSV is of the kind of ``y_labels.csv``, by its first line."""
    try:
        with path.open("rb") as file:
            first = file.readline(_MAX_LINE_BYTES)
    except OSError:
        return False
    return _INDEX_LINE.fullmatch(first.decode(errors="replace").rstrip("\r\n")) is not None


def read_index_csv(path: Path) -> tuple[Sample, ...]:
    """Read a list of ``file,number of classes,class index`` without a header, as MLPerf Tiny's ``y_labels.csv``.

    Args:
        path: The CSV. The files lie beside it.

    Returns:
        One sample a line, without a split; the label is the class index as text, such as ``"7"``.

    Raises:
        DatasetError: The file cannot be read or is too large, or a line is of another form.
    """
    samples: list[Sample] = []
    try:
        if path.stat().st_size > MAX_CSV_BYTES:
            raise DatasetError(f"{path}: expected at most {MAX_CSV_BYTES >> 20} MiB of CSV, got more")
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            reader = csv.reader(file)
            try:
                for row in filter(None, reader):
                    if len(samples) == MAX_PICTURES:
                        raise DatasetError(f"{path}: expected at most {MAX_PICTURES:,} pictures, got more")
                    samples.append(_parse_index_row(row, path.parent))
            except (csv.Error, ValueError) as error:
                raise DatasetError(f"{path}: line {reader.line_num}: {error}") from error
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror}); expected a list of raw pictures") from error
    return tuple(samples)


def map_index_labels(samples: Sequence[Sample], labels: Sequence[str]) -> tuple[Sample, ...]:
    """Give pictures that are labelled by class index the names that a model has for them.

    A set is labelled by index when every label is a whole number from 0 to below the model's number of labels, written
    without a sign or leading zeros, and the model does not know all of them by name. Any other set is returned as it
    is, so that whoever compares the labels can say which one is unknown.

    Args:
        samples: Of one set.
        labels: Of the model, in output order: index 0 is the first.
    """
    found = {sample.label for sample in samples}
    by_index = all(_INDEX.fullmatch(label) and int(label) < len(labels) for label in found)
    if not by_index or found <= set(labels):
        return tuple(samples)
    return tuple(replace(sample, label=labels[int(sample.label)]) for sample in samples)


def _parse_npy_header(data: bytes) -> tuple[object, bool, tuple[int, ...], int]:
    """Type, whether columns come first, shape, and where the pixels begin; nothing of it is believed yet."""
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


def _parse_index_row(row: Sequence[str], folder: Path) -> Sample:
    """One line; raises ValueError with the reason."""
    if len(row) != 3 or not row[0] or "\0" in row[0] or not _INDEX.fullmatch(row[1]) or not _INDEX.fullmatch(row[2]):
        raise ValueError(f"expected file,number of classes,class index, got {shorten(repr(list(row)))}")
    if int(row[2]) >= int(row[1]):
        raise ValueError(f"expected a class index below {row[1]}, got {row[2]}")
    return Sample(folder / row[0], row[2])
