"""Read the labels, manifest and checksum that edgekit embeds in a model file, without a runtime.

TFLite Metadata's associated files are a zip appended to the FlatBuffer. ONNX keeps ``metadata_props`` as field 14 of
the ModelProto message, whose entries have ``key`` as field 1 and ``value`` as field 2 (onnx.proto).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edge_runtime.contract import LABELS_FILE, MANIFEST_FILE, MAX_MANIFEST_BYTES
from edge_runtime.errors import IntegrityError
from edge_runtime.labels import from_text
from edge_runtime.model import protobuf

if TYPE_CHECKING:
    import zipfile


CHECKSUM_FILE = "flatbuffer.sha256"
ONNX_MANIFEST_KEY = "edgekit.manifest"
ONNX_LABELS_KEY = "edgekit.labels"
_MAX_MODEL_BYTES = 1 << 30
_METADATA_PROPS_FIELD = 14
_ZIP_END = b"PK\x05\x06"
_ZIP_END_BYTES = (1 << 16) + 22


@dataclass(frozen=True)
class Embedded:
    """What was found inside a model file.

    Attributes:
        labels: One a line of the labels file.
        manifest_json: The manifest's bytes, not yet parsed.
    """

    labels: tuple[str, ...]
    manifest_json: bytes


def read_embedded(path: Path) -> Embedded | None:
    """Read the embedded manifest, or None where the file carries none.

    Raises:
        IntegrityError: The embedded part is damaged, or the model before it is not what its checksum says.
    """
    size = path.stat().st_size
    if size > _MAX_MODEL_BYTES:
        raise IntegrityError(f"{path}: expected at most {_MAX_MODEL_BYTES >> 20} MiB, got {size >> 20} MiB")
    return _from_onnx(path) if path.suffix == ".onnx" else _from_tflite(path)


def _from_tflite(path: Path) -> Embedded | None:
    if not _may_hold_zip(path):
        return None
    # Imported here because a model without a zip needs none of it, and it costs a cold start 5 ms.
    import zipfile

    if not zipfile.is_zipfile(path):
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
            if MANIFEST_FILE not in names:
                return None
            manifest_json = _member(archive, MANIFEST_FILE)
            labels = from_text(_member(archive, LABELS_FILE).decode())
            checksum = _member(archive, CHECKSUM_FILE).decode().strip()
            flatbuffer_bytes = min(info.header_offset for info in archive.infolist())
    except (zipfile.BadZipFile, KeyError, ValueError, OSError, NotImplementedError) as error:
        raise IntegrityError(f"{path}: its embedded metadata is damaged ({error}); copy it again") from error
    with path.open("rb") as file:
        found = hashlib.sha256(file.read(flatbuffer_bytes)).hexdigest()
    if found != checksum:
        raise IntegrityError(
            f"{path}: was altered or damaged (expected SHA-256 {checksum[:12]}… of the model, got {found[:12]}…); "
            "copy it again"
        )
    return Embedded(labels, manifest_json)


def _may_hold_zip(path: Path) -> bool:
    """Whether the end of the file holds the mark of a zip's end; its comment has at most 64 KiB."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _ZIP_END_BYTES))
        return _ZIP_END in file.read(_ZIP_END_BYTES)


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    info = archive.getinfo(name)
    if info.file_size > MAX_MANIFEST_BYTES:
        raise ValueError(f"{name} is larger than {MAX_MANIFEST_BYTES} bytes")
    with archive.open(info) as member:
        return member.read(MAX_MANIFEST_BYTES)


def _from_onnx(path: Path) -> Embedded | None:
    data = memoryview(path.read_bytes())
    properties: dict[str, bytes] = {}
    try:
        for entry in protobuf.messages(data, _METADATA_PROPS_FIELD):
            parts = {field: bytes(value) for field, value in protobuf.fields(entry) if isinstance(value, memoryview)}
            properties[parts[1].decode()] = parts[2]
    except (ValueError, KeyError) as error:
        raise IntegrityError(f"{path}: expected an ONNX model, but its structure is damaged ({error})") from error
    if ONNX_MANIFEST_KEY not in properties:
        return None
    labels = from_text(properties.get(ONNX_LABELS_KEY, b"").decode(errors="replace"))
    return Embedded(labels, properties[ONNX_MANIFEST_KEY])
