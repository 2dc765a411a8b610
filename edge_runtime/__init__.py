"""Classify images on the device; the contract that training and conversion conform to.

``from edge_runtime import Classifier; Classifier("bundle").classify("photo.jpg")`` gives predictions.
Nothing here imports TensorFlow, Keras, JAX, onnx or tf2onnx.

``from edge_runtime import Classifier; Classifier("bundle").classify("photo.jpg")`` gives predictions.
Nothing here imports TensorFlow, Keras, JAX, onnx or tf2onnx.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from edge_runtime.version import __version__

if TYPE_CHECKING:
    from edge_runtime.classifier import Classifier
    from edge_runtime.errors import EdgeKitError
    from edge_runtime.pipeline.camera import classify_frames
    from edge_runtime.pipeline.decide import Decider
    from edge_runtime.results import Classified, Prediction, StateChange
    from edge_runtime.sources.base import CaptureOptions, Frame
    from edge_runtime.sources.opening import open_source


__all__ = [
    "CaptureOptions",
    "Classified",
    "Classifier",
    "Decider",
    "EdgeKitError",
    "Frame",
    "Prediction",
    "StateChange",
    "__version__",
    "classify_frames",
    "open_source",
]
_MODULES = {
    "CaptureOptions": "sources.base",
    "Classified": "results",
    "Classifier": "classifier",
    "Decider": "pipeline.decide",
    "EdgeKitError": "errors",
    "Frame": "sources.base",
    "Prediction": "results",
    "StateChange": "results",
    "classify_frames": "pipeline.camera",
    "open_source": "sources.opening",
}

# OpenCV reads these once, when it is first imported: the same pixel limit as in preprocess.py, for the formats whose
# headers are not read there, and no log lines beside our own sentences. Decoding holds two copies of three bytes a
# pixel, 200 MB for the largest image, which a small board still has.
if not os.environ.get("OPENCV_IO_MAX_IMAGE_PIXELS", "").isdecimal():
    os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"] = str(1 << 25)
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")


def __getattr__(name: str) -> Any:
    """Load the Python API late, so that ``--help`` and the contract cost no import of numpy or OpenCV."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"edge_runtime.{_MODULES[name]}"), name)
