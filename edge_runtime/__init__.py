"""Classify images on the device; the contract that training and conversion conform to.

``from edge_runtime import Classifier; Classifier("bundle").classify("photo.jpg")`` gives predictions. Everything in
``__all__`` is public and is loaded on first use, so that ``import edge_runtime`` imports neither numpy nor OpenCV.
Nothing here imports TensorFlow, Keras, JAX, onnx or tf2onnx.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from edge_runtime.version import __version__

if TYPE_CHECKING:
    from edge_runtime.classifier import Classifier
    from edge_runtime.contract import Crop, Manifest, Variant
    from edge_runtime.errors import (
        DataError,
        EdgeKitError,
        EngineError,
        ImageError,
        ModelError,
        OutputError,
        SourceError,
        UsageError,
    )
    from edge_runtime.model.bundle import ModelOptions
    from edge_runtime.pipeline.camera import classify_frames
    from edge_runtime.pipeline.decide import Decider
    from edge_runtime.pipeline.folder import classify_files
    from edge_runtime.pipeline.health import Health
    from edge_runtime.platform.process import core_count
    from edge_runtime.results import (
        Classified,
        Decision,
        Failed,
        LatencyMs,
        Prediction,
        Result,
        SourceState,
        StateChange,
        to_record,
    )
    from edge_runtime.sinks.background import BackgroundSink
    from edge_runtime.sinks.base import Sink
    from edge_runtime.sinks.files import open_file_sink
    from edge_runtime.sinks.rows import CsvSink, JsonlSink, open_frame_sink
    from edge_runtime.sinks.save_frames import SaveChoice, open_save_frames
    from edge_runtime.sinks.webhook import WebhookSink
    from edge_runtime.sources.base import CaptureOptions, Frame, FrameSource
    from edge_runtime.sources.images import find_images
    from edge_runtime.sources.opening import open_source

_NAMES = {
    "classifier": "Classifier",
    "contract": "Crop Manifest Variant",
    "errors": "DataError EdgeKitError EngineError ImageError ModelError OutputError SourceError UsageError",
    "model.bundle": "ModelOptions",
    "pipeline.camera": "classify_frames",
    "pipeline.decide": "Decider",
    "pipeline.folder": "classify_files",
    "pipeline.health": "Health",
    "platform.process": "core_count",
    "results": "Classified Decision Failed LatencyMs Prediction Result SourceState StateChange to_record",
    "sinks.background": "BackgroundSink",
    "sinks.base": "Sink",
    "sinks.files": "open_file_sink",
    "sinks.rows": "CsvSink JsonlSink open_frame_sink",
    "sinks.save_frames": "SaveChoice open_save_frames",
    "sinks.webhook": "WebhookSink",
    "sources.base": "CaptureOptions Frame FrameSource",
    "sources.images": "find_images",
    "sources.opening": "open_source",
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names.split()}

__all__ = [
    "BackgroundSink",
    "CaptureOptions",
    "Classified",
    "Classifier",
    "Crop",
    "CsvSink",
    "DataError",
    "Decider",
    "Decision",
    "EdgeKitError",
    "EngineError",
    "Failed",
    "Frame",
    "FrameSource",
    "Health",
    "ImageError",
    "JsonlSink",
    "LatencyMs",
    "Manifest",
    "ModelError",
    "ModelOptions",
    "OutputError",
    "Prediction",
    "Result",
    "SaveChoice",
    "Sink",
    "SourceError",
    "SourceState",
    "StateChange",
    "UsageError",
    "Variant",
    "WebhookSink",
    "__version__",
    "classify_files",
    "classify_frames",
    "core_count",
    "find_images",
    "open_file_sink",
    "open_frame_sink",
    "open_save_frames",
    "open_source",
    "to_record",
]

# OpenCV reads these once, when it is first imported: the same pixel limit as in preprocess.py, for the formats whose
# headers are not read there, and no log lines beside our own messages. Decoding holds two copies of three bytes a
# pixel, 200 MB for the largest image, which a small board still has.
if not os.environ.get("OPENCV_IO_MAX_IMAGE_PIXELS", "").isdecimal():
    os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"] = str(1 << 25)
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")


def __getattr__(name: str) -> Any:
    """Load a public name on first use, so that ``--help`` and the contract import neither numpy nor OpenCV."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"edge_runtime.{_MODULES[name]}"), name)
