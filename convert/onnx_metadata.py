"""Make a ``.onnx`` self-describing: labels and manifest in ``metadata_props``; names for input and output."""

from __future__ import annotations

from pathlib import Path

from edge_runtime.contract import Manifest
from edge_runtime.embedded import ONNX_LABELS_KEY, ONNX_MANIFEST_KEY
from edge_runtime.labels import to_text


def embed(path: Path, manifest: Manifest) -> None:
    """Write labels and manifest into a ``.onnx`` file, in place.

    Besides edgekit's keys, the official image keys of the ONNX metadata specification are set.
    """
    import onnx

    model = onnx.load(str(path))
    onnx.helper.set_model_props(
        model,
        {
            ONNX_LABELS_KEY: to_text(manifest.labels),
            ONNX_MANIFEST_KEY: manifest.without_artifacts().to_json(),
            "Image.BitmapPixelFormat": "Rgb8",
            "Image.ColorSpaceGamma": "SRGB",
            "Image.NominalPixelRange": "NominalRange_0_255",
        },
    )
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))


def minimum_runtime(path: Path) -> str:
    """What a runtime must know to open the file, such as ``onnx opset 18``."""
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    opset = max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    return f"onnx opset {opset}"
