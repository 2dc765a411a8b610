"""The part of edgekit that runs on the device, and the contract that training and conversion conform to.

``from edge_runtime import Classifier; Classifier("bundle").classify("photo.jpg")`` gives predictions.
Nothing here imports TensorFlow, Keras, JAX, onnx or tf2onnx.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge_runtime.classifier import Classifier as Classifier
    from edge_runtime.classifier import Prediction as Prediction

__version__ = "0.1.0"
__all__ = ["Classifier", "Prediction", "__version__"]

# OpenCV reads these once, when it is first imported: the same pixel limit as in preprocess.py, for the formats whose
# headers are not read there, and no log lines beside our own sentences. Decoding holds two copies of three bytes a
# pixel, 200 MB for the largest picture, which a small board still has.
if not os.environ.get("OPENCV_IO_MAX_IMAGE_PIXELS", "").isdecimal():
    os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"] = str(1 << 25)
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")


def __getattr__(name: str) -> Any:
    """Load the Python API late, so that ``--help`` and the contract cost no import of numpy or OpenCV."""
    if name in ("Classifier", "Prediction"):
        from edge_runtime import classifier

        return getattr(classifier, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
