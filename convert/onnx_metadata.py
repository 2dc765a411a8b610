"""Make a ``.onnx`` self-describing: labels and manifest in ``metadata_props``, what the input is in its type."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from edge_runtime.contract import InputSpec, Manifest
from edge_runtime.embedded import ONNX_LABELS_KEY, ONNX_MANIFEST_KEY
from edge_runtime.labels import to_text

# By colour order, which also says how many channels there are (ONNX, docs/MetadataProps.md).
_PIXEL_FORMATS: Final = {"rgb": "Rgb8", "bgr": "Bgr8", "gray": "Gray8"}
# Rows and columns are both called a feature (ONNX, docs/DimensionDenotation.md).
_IMAGE_AXES: Final = ("DATA_BATCH", "DATA_FEATURE", "DATA_FEATURE", "DATA_CHANNEL")
_SCORE_AXES: Final = ("DATA_BATCH", "DATA_FEATURE")
# ONNX Runtime release, with the newest opset and IR version that it takes: the table of its documentation
# (docs/reference/compatibility.md), one line for each release that brought something new.
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


def embed(path: Path, manifest: Manifest) -> None:
    """Write labels and manifest into a ``.onnx`` file, in place, and say what goes in and comes out.

    Besides edgekit's keys, the image keys and the denotations of the ONNX specification are set (docs/MetadataProps.md,
    docs/TypeDenotation.md).
    """
    import onnx

    model = onnx.load(str(path))
    onnx.helper.set_model_props(model, properties(manifest))
    _denote(model.graph.input[0].type, "IMAGE", _IMAGE_AXES)
    _denote(model.graph.output[0].type, "TENSOR", _SCORE_AXES)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))


def properties(manifest: Manifest) -> dict[str, str]:
    """The entries of ``metadata_props`` that a model with this manifest carries."""
    return {
        ONNX_LABELS_KEY: to_text(manifest.labels),
        ONNX_MANIFEST_KEY: manifest.without_artifacts().to_json(),
        **_image_properties(manifest.input),
    }


def minimum_runtime(path: Path) -> str:
    """What is needed to open the file, such as ``onnx opset 18, onnxruntime 1.14``."""
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    opset = max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    return f"onnx opset {opset}, {lowest_onnxruntime(opset, model.ir_version)}"


def lowest_onnxruntime(opset: int, ir_version: int) -> str:
    """Lowest ONNX Runtime release that knows an opset and an IR version, such as ``onnxruntime 1.14``."""
    for release, newest_opset, newest_ir in _ONNX_RUNTIME:
        if opset <= newest_opset and ir_version <= newest_ir:
            return f"onnxruntime {release}"
    return f"an onnxruntime after {_ONNX_RUNTIME[-1][0]}"


def _image_properties(spec: InputSpec) -> dict[str, str]:
    return {
        "Image.BitmapPixelFormat": _PIXEL_FORMATS[spec.color.value],
        "Image.ColorSpaceGamma": "SRGB",
        "Image.NominalPixelRange": "NominalRange_0_255",
    }


def _denote(kind: Any, denotation: str, axes: tuple[str, ...]) -> None:
    kind.denotation = denotation
    sides = kind.tensor_type.shape.dim
    if len(sides) == len(axes):
        for side, axis in zip(sides, axes, strict=True):
            side.denotation = axis
