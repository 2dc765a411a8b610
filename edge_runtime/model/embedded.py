"""Read what a model file carries, without a runtime: edgekit's manifest and labels, or TFLite Metadata of others.

In a ``.tflite`` of edgekit, TFLite Metadata's associated files are a zip after the FlatBuffer: labels, manifest, and
the SHA-256 of the FlatBuffer. An ``.onnx`` keeps labels and manifest in ``metadata_props``, field 14 of ModelProto,
whose entries have ``key`` as field 1 and ``value`` as field 2 (onnx.proto).

TFLite Metadata is a FlatBuffer with identifier ``M001`` in a metadata buffer of the model (schema 1.1). Field numbers
are positions in the schema's tables. Score calibration and other output steps are skipped: they do not change the
order of the labels.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from edge_runtime.contract import (
    LABELS_FILE,
    MANIFEST_FILE,
    MAX_MANIFEST_BYTES,
    Manifest,
    check_labels,
    labels_from_text,
)
from edge_runtime.errors import IntegrityError
from edge_runtime.model import protobuf
from edge_runtime.tflite.flatbuffer import DamageError, Reader, Table

if TYPE_CHECKING:
    from edge_runtime.tflite.validation import Structure

CHECKSUM_FILE = "flatbuffer.sha256"
ONNX_MANIFEST_KEY = "edgekit.manifest"
ONNX_LABELS_KEY = "edgekit.labels"
METADATA_NAME = "TFLITE_METADATA"
_MAX_MODEL_BYTES = 1 << 30
_MAX_LABELS_BYTES = 4 << 20
_METADATA_PROPS_FIELD = 14
_ZIP_END = b"PK\x05\x06"
_ZIP_END_BYTES = (1 << 16) + 22  # a zip's comment has at most 64 KiB
_IDENTIFIER = b"M001"
_NORMALIZATION_OPTIONS = 1
_TENSOR_AXIS_LABELS = 2
_CHANNELS = 3

Range = tuple[float, float]
"""Input values for the pixel values 0 and 255."""


def embedded_manifest(path: Path) -> Manifest | None:
    """Read the manifest that edgekit embeds in a ``.tflite`` or ``.onnx``; None where the file carries none.

    Raises:
        ManifestError: It does not follow the schema.
        IntegrityError: The embedded part is damaged, the labels differ from the manifest's, or the SHA-256 of the
            FlatBuffer is another.
    """
    size = path.stat().st_size
    if size > _MAX_MODEL_BYTES:
        raise IntegrityError(f"{path}: expected at most {_MAX_MODEL_BYTES >> 20} MiB, got {size >> 20} MiB")
    found = _from_onnx(path) if path.suffix == ".onnx" else _from_tflite(path)
    if found is None:
        return None
    labels, manifest_json = found
    manifest = Manifest.from_json(manifest_json, where=f"{path} (embedded manifest)")
    if labels != manifest.labels:
        raise IntegrityError(f"{path}: the labels inside the file differ from those of its manifest; export it again")
    return manifest


def _from_tflite(path: Path) -> tuple[tuple[str, ...], bytes] | None:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _ZIP_END_BYTES))
        if _ZIP_END not in file.read(_ZIP_END_BYTES):
            return None
    # Imported here because a model without a zip needs none of it, and it costs a cold start 5 ms.
    import zipfile

    from edge_runtime.platform.zips import ZIP_ERRORS, open_small_zip, read_member

    if not zipfile.is_zipfile(path):
        return None
    try:
        with open_small_zip(path) as archive:
            if MANIFEST_FILE not in archive.namelist():
                return None
            manifest_json = read_member(archive, MANIFEST_FILE, MAX_MANIFEST_BYTES)
            labels = labels_from_text(read_member(archive, LABELS_FILE, MAX_MANIFEST_BYTES).decode())
            checksum = read_member(archive, CHECKSUM_FILE, 1000).decode().strip()
            flatbuffer_bytes = min(info.header_offset for info in archive.infolist())
    except ZIP_ERRORS as error:
        raise IntegrityError(
            f"{path}: its embedded metadata is damaged ({str(error) or 'it ends too early'}); copy it again"
        ) from error
    with path.open("rb") as file:
        found = hashlib.sha256(file.read(flatbuffer_bytes)).hexdigest()
    if found != checksum:
        raise IntegrityError(
            f"{path}: was altered or damaged (expected SHA-256 {checksum[:12]}… of the model, got {found[:12]}…); "
            "copy it again"
        )
    return labels, manifest_json


def _from_onnx(path: Path) -> tuple[tuple[str, ...], bytes] | None:
    properties: dict[str, bytes] = {}
    try:
        for entry in protobuf.messages(memoryview(path.read_bytes()), _METADATA_PROPS_FIELD):
            parts = {field: bytes(value) for field, value in protobuf.fields(entry) if isinstance(value, memoryview)}
            properties[parts[1].decode()] = parts[2]
    except (ValueError, KeyError) as error:
        raise IntegrityError(f"{path}: expected an ONNX model, but its structure is damaged ({error})") from error
    if ONNX_MANIFEST_KEY not in properties:
        return None
    return labels_from_text(properties.get(ONNX_LABELS_KEY, b"").decode(errors="replace")), properties[
        ONNX_MANIFEST_KEY
    ]


class ModelMetadata(NamedTuple):
    """Content of TFLite Metadata.

    Attributes:
        labels: Labels in output order, or None where the file carries none.
        labels_file: Name of the labels file inside the model, or None.
        input_ranges: Input values for the pixel values 0 and 255, once for all channels or for red, green and blue;
            None without a normalization.
    """

    labels: tuple[str, ...] | None = None
    labels_file: str | None = None
    input_ranges: tuple[Range, ...] | None = None


NO_METADATA = ModelMetadata()


def model_metadata(path: Path, structure: Structure) -> ModelMetadata:
    """Read the TFLite Metadata of a validated ``.tflite``; damaged metadata counts as none."""
    flatbuffer = structure.metadata.get(METADATA_NAME)
    try:
        return read_metadata(path, flatbuffer) if flatbuffer else NO_METADATA
    except DamageError:
        return NO_METADATA


def read_metadata(path: Path, flatbuffer: bytes) -> ModelMetadata:
    """Read the metadata buffer of a model with one input and one output, whose zip holds the labels.

    Each part that is missing or unusable is None; metadata that point outside themselves raise DamageError.
    """
    graph = next(Reader(flatbuffer, _IDENTIFIER).root().tables(3), None)
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
    """Names of the label files; those without a locale first, because the others are translations."""
    found = [file for file in tensor.tables(6) if file.scalar(2, "b") == _TENSOR_AXIS_LABELS]
    for file in sorted(found, key=lambda file: file.text(3)[1] > 0):
        yield tensor.reader.text(file.text(0))


def _read_labels(path: Path, name: str) -> tuple[str, ...] | None:
    # Imported here because most models of others have no such file.
    from edge_runtime.platform.zips import ZIP_ERRORS, open_small_zip, read_member

    try:
        with open_small_zip(path) as archive:
            text = read_member(archive, name, _MAX_LABELS_BYTES).decode()
        labels = tuple(line.strip() for line in text.splitlines())
        check_labels(labels)
    except ZIP_ERRORS:
        return None
    return labels
