"""Embed labels and manifest in ``.tflite`` and ``.onnx`` files.

Format: a FlatBuffer with identifier ``M001`` in a model buffer named ``TFLITE_METADATA``, and the files that it names
in a zip after the model's own FlatBuffer (TFLite Metadata schema 1.1). MediaPipe's ``ImageClassifier`` reads it.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import flatbuffers

from convert.tflite_model import pack_model, unpack_model
from edge_runtime.contract import LABELS_FILE, MANIFEST_FILE, InputSpec, Manifest, labels_to_text
from edge_runtime.model.embedded import CHECKSUM_FILE, METADATA_NAME, ONNX_LABELS_KEY, ONNX_MANIFEST_KEY

_IDENTIFIER = b"M001"
_PARSER_VERSION = "1.0.0"
_TENSOR_AXIS_LABELS = 2
_FEATURE_PROPERTIES, _IMAGE_PROPERTIES = 1, 2
_COLOR_RGB = 1
# By colour order, which implies the number of channels (ONNX, docs/MetadataProps.md).
_PIXEL_FORMATS: Final = {"rgb": "Rgb8", "bgr": "Bgr8", "gray": "Gray8"}
# Rows and columns are both called a feature (ONNX, docs/DimensionDenotation.md).
_IMAGE_AXES: Final = ("DATA_BATCH", "DATA_FEATURE", "DATA_FEATURE", "DATA_CHANNEL")
_SCORE_AXES: Final = ("DATA_BATCH", "DATA_FEATURE")
# ONNX Runtime releases with their newest opset and IR version, one line for each change (its documentation,
# docs/reference/compatibility.md).
_ONNX_RUNTIME: Final = (
    ("1.7", 13, 7),
    ("1.8", 14, 7),
    ("1.9", 15, 8),
    ("1.11", 16, 8),
    ("1.12", 17, 8),
    ("1.14", 18, 8),
    ("1.15", 19, 8),
    ("1.16", 19, 9),
    ("1.17", 20, 9),
    ("1.18", 21, 10),
)


def embed_tflite(path: Path, manifest: Manifest) -> None:
    """Write metadata, labels, manifest and checksum into a ``.tflite`` without metadata, in place.

    The artifacts of the manifest are left out, since a file cannot hold its own hash.
    """
    model = unpack_model(path.read_bytes())
    # The converter names the output after its last operator, such as Identity.
    graph = model.subgraphs[0]
    graph.tensors[graph.outputs[0]].name = "probabilities"
    _add_buffer(model, METADATA_NAME, _metadata_flatbuffer(manifest))
    flatbuffer = pack_model(model)
    path.write_bytes(flatbuffer)
    files = {
        LABELS_FILE: labels_to_text(manifest.labels),
        MANIFEST_FILE: manifest.without_artifacts().to_json(),
        CHECKSUM_FILE: hashlib.sha256(flatbuffer).hexdigest() + "\n",
    }
    # Stored, not compressed, since readers map the labels; ZipInfo's date is always 1980, so that equal input gives
    # equal bytes.
    with zipfile.ZipFile(path, "a", zipfile.ZIP_STORED) as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name), text)


def _add_buffer(model: Any, name: str, data: bytes) -> None:
    from ai_edge_litert import schema_py_generated as schema

    buffer = schema.BufferT()
    buffer.data = data
    model.buffers.append(buffer)
    entry = schema.MetadataT()
    entry.name, entry.buffer = name, len(model.buffers) - 1
    model.metadata = [*(model.metadata or []), entry]


def _metadata_flatbuffer(manifest: Manifest) -> bytes:
    """Build ModelMetadata with one image input and one probability output.

    Slot numbers are the positions of the fields in the schema; a union takes two slots, its type first.
    """
    builder = flatbuffers.Builder(1024)
    inputs = _vector(builder, [_image_tensor(builder, manifest.input)])
    outputs = _vector(builder, [_probability_tensor(builder)])
    subgraph = _table(builder, 7, {2: inputs, 3: outputs})
    subgraphs = _vector(builder, [subgraph])
    name = builder.CreateString(manifest.model_name)
    description = builder.CreateString(f"Image classifier with {len(manifest.labels)} labels, exported by edgekit.")
    version = builder.CreateString(_PARSER_VERSION)
    root = _table(builder, 8, {0: name, 1: description, 3: subgraphs, 7: version})
    builder.Finish(root, _IDENTIFIER)
    return bytes(builder.Output())


def _image_tensor(builder: flatbuffers.Builder, spec: InputSpec) -> int:
    name = builder.CreateString("image")
    description = builder.CreateString(f"uint8 [1, {spec.height}, {spec.width}, 3], RGB, 0 to 255.")
    builder.StartObject(2)
    builder.PrependUint32Slot(0, spec.width, 0)
    builder.PrependUint32Slot(1, spec.height, 0)
    properties = _table(builder, 2, {1: builder.EndObject()}, {0: _COLOR_RGB})
    content = _table(builder, 3, {1: properties}, {0: _IMAGE_PROPERTIES})
    return _table(builder, 7, {0: name, 1: description, 3: content})


def _probability_tensor(builder: flatbuffers.Builder) -> int:
    name = builder.CreateString("probability")
    description = builder.CreateString("Probability of each label.")
    content = _table(builder, 3, {1: _table(builder, 1, {})}, {0: _FEATURE_PROPERTIES})
    labels = _associated_file(builder, LABELS_FILE, "One label a line, in output order.", _TENSOR_AXIS_LABELS)
    files = _vector(builder, [labels, _associated_file(builder, MANIFEST_FILE, "The edgekit manifest.", 0)])
    return _table(builder, 7, {0: name, 1: description, 3: content, 6: files})


def _associated_file(builder: flatbuffers.Builder, name: str, description: str, kind: int) -> int:
    return _table(builder, 5, {0: builder.CreateString(name), 1: builder.CreateString(description)}, {2: kind})


def _table(
    builder: flatbuffers.Builder, slots: int, offsets: Mapping[int, int], enums: Mapping[int, int] | None = None
) -> int:
    builder.StartObject(slots)
    for slot, value in (enums or {}).items():
        builder.PrependInt8Slot(slot, value, 0)
    for slot, offset in offsets.items():
        builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
    return int(builder.EndObject())


def _vector(builder: flatbuffers.Builder, offsets: list[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())


def embed_onnx(path: Path, manifest: Manifest) -> None:
    """Write labels and manifest into a ``.onnx`` file, in place.

    Besides edgekit's keys, the image keys and the denotations of input and output of the ONNX specification are set
    (docs/MetadataProps.md, docs/TypeDenotation.md).
    """
    import onnx

    model = onnx.load(str(path))
    properties = {
        ONNX_LABELS_KEY: labels_to_text(manifest.labels),
        ONNX_MANIFEST_KEY: manifest.without_artifacts().to_json(),
        "Image.BitmapPixelFormat": _PIXEL_FORMATS[manifest.input.color.value],
        "Image.ColorSpaceGamma": "SRGB",
        "Image.NominalPixelRange": "NominalRange_0_255",
    }
    onnx.helper.set_model_props(model, properties)
    _denote(model.graph.input[0].type, "IMAGE", _IMAGE_AXES)
    _denote(model.graph.output[0].type, "TENSOR", _SCORE_AXES)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))


def onnx_minimum_runtime(path: Path) -> str:
    """Find the opset and the lowest runtime of a file, such as ``onnx opset 18, onnxruntime 1.14``."""
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    opset = max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    return f"onnx opset {opset}, {lowest_onnxruntime(opset, model.ir_version)}"


def lowest_onnxruntime(opset: int, ir_version: int) -> str:
    """Find the lowest ONNX Runtime release with an opset and an IR version, such as ``onnxruntime 1.14``."""
    for release, newest_opset, newest_ir in _ONNX_RUNTIME:
        if opset <= newest_opset and ir_version <= newest_ir:
            return f"onnxruntime {release}"
    return f"an onnxruntime after {_ONNX_RUNTIME[-1][0]}"


def _denote(kind: Any, denotation: str, axes: tuple[str, ...]) -> None:
    kind.denotation = denotation
    sides = kind.tensor_type.shape.dim
    if len(sides) == len(axes):
        for side, axis in zip(sides, axes, strict=True):
            side.denotation = axis
