"""Choose and open the runtime for a model file."""

from __future__ import annotations

import enum
from pathlib import Path

from edge_runtime.engines.base import Engine
from edge_runtime.errors import UsageError


class EngineName(str, enum.Enum):
    """Values of ``--engine``. ``auto`` takes LiteRT, else tflite-runtime, for TFLite files."""

    AUTO = "auto"
    LITERT = "litert"
    TFLITE_RUNTIME = "tflite-runtime"
    ONNXRUNTIME = "onnxruntime"


def open_engine(path: Path, engine: EngineName = EngineName.AUTO, threads: int = 1) -> Engine:
    """Open a ``.tflite`` or ``.onnx`` file.

    Args:
        path: The model file.
        engine: Which runtime; it must fit the file.
        threads: Threads inside one inference.

    Raises:
        UsageError: The runtime cannot open this kind of file.
        EngineError: The runtime is not installed or failed.
        IntegrityError: The file is damaged.
    """
    is_onnx = path.suffix == ".onnx"
    if is_onnx != (engine is EngineName.ONNXRUNTIME) and engine is not EngineName.AUTO:
        fitting = "onnxruntime" if is_onnx else "litert or tflite-runtime"
        raise UsageError(f"{path}: engine {engine.value} cannot open this file; use --engine {fitting}")
    if is_onnx:
        from edge_runtime.engines.onnx import OnnxEngine

        return OnnxEngine(path, threads)
    from edge_runtime.engines.litert import LiteRtEngine

    return LiteRtEngine(path, threads, runtime=None if engine is EngineName.AUTO else engine.value)
