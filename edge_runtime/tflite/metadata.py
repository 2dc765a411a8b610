"""Read TFLite Metadata: the labels of a model and the normalization of its input.

Format: a FlatBuffer with identifier ``M001`` in a metadata buffer of the model, and the files that it names in a zip
after the model (TFLite Metadata schema 1.1). Numbers of fields are positions in the schema's tables. Score calibration
and other output steps are left aside: they do not change which label is the answer.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from edge_runtime.labels import check_labels
from edge_runtime.tflite.flatbuffer import Reader, Table

METADATA_NAME = "TFLITE_METADATA"
_IDENTIFIER = b"M001"
_NORMALIZATION_OPTIONS = 1
_TENSOR_AXIS_LABELS = 2
_CHANNELS = 3
_MAX_LABELS_BYTES = 4 << 20
_MAX_ZIP_ENTRIES = 1000

# What reading a damaged zip raises, beside BadZipFile; a locked one raises RuntimeError.
_ZIP_ERRORS = (KeyError, ValueError, OSError, NotImplementedError, RuntimeError, EOFError, zlib.error)

Range = tuple[float, float]


class ModelMetadata(NamedTuple):
    """What was read.

    Attributes:
        labels: In output order, or None where the file carries none.
        labels_file: Name of the file inside the model that they come from, or None.
        input_ranges: What the pixel values 0 and 255 become, once for all channels or for red, green and blue; None
            where the file does not say.
    """

    labels: tuple[str, ...] | None = None
    labels_file: str | None = None
    input_ranges: tuple[Range, ...] | None = None


NO_METADATA = ModelMetadata()


def read_metadata(path: Path, flatbuffer: bytes) -> ModelMetadata:
    """Read the metadata of a model with one input and one output.

    Args:
        path: The model, whose zip holds the labels.
        flatbuffer: Its metadata buffer.

    Returns:
        What it says; what is missing there, or cannot be used, is None.

    Raises:
        DamageError: The metadata points outside itself.
    """
    reader = Reader(flatbuffer, _IDENTIFIER)
    graph = next(reader.root().tables(3), None)
    if graph is None:
        return NO_METADATA
    source, target = next(graph.tables(2), None), next(graph.tables(3), None)
    ranges = _input_ranges(source) if source else None
    names = list(_label_files(target)) if target else []
    labels = _read_labels(path, names[0]) if names else None
    return ModelMetadata(labels, names[0] if labels else None, ranges)


def _input_ranges(tensor: Table) -> tuple[Range, ...] | None:
    for unit in tensor.tables(4):
        options = unit.table(1)
        if unit.scalar(0, "B") == _NORMALIZATION_OPTIONS and options:
            means, deviations = _floats(options, 0), _floats(options, 1)
            if len(means) != len(deviations) or len(means) not in (1, _CHANNELS):
                return None
            if not all(map(math.isfinite, means)) or not all(0 < value < math.inf for value in deviations):
                return None
            return tuple((-m / d, (255.0 - m) / d) for m, d in zip(means, deviations, strict=True))
    return None


def _floats(table: Table, field: int) -> tuple[float, ...]:
    start, count = table.vector(field, 4)
    return struct.unpack_from(f"<{min(count, _CHANNELS + 1)}f", table.reader.data, start)


def _label_files(tensor: Table) -> Iterator[str]:
    """Names of the label files; those without a language first, since further ones are translations."""
    reader = tensor.reader
    found = [file for file in tensor.tables(6) if file.scalar(2, "b") == _TENSOR_AXIS_LABELS]
    for file in sorted(found, key=lambda file: file.text(3)[1] > 0):
        yield reader.text(file.text(0))


def _read_labels(path: Path, name: str) -> tuple[str, ...] | None:
    # Imported here because most models from elsewhere have no such file.
    import zipfile

    try:
        with zipfile.ZipFile(path) as archive:
            if len(archive.filelist) > _MAX_ZIP_ENTRIES or archive.getinfo(name).file_size > _MAX_LABELS_BYTES:
                return None
            with archive.open(name) as member:
                text = member.read(_MAX_LABELS_BYTES + 1).decode()
        labels = tuple(line.strip() for line in text.splitlines())
        check_labels(labels)
    except (*_ZIP_ERRORS, zipfile.BadZipFile):
        return None
    return labels
