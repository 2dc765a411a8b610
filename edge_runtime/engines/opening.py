"""Choose and open the runtime for a model file."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import TYPE_CHECKING

from edge_runtime.engines.base import Engine
from edge_runtime.errors import UsageError

if TYPE_CHECKING:
    from edge_runtime.tflite.validation import Structure


class EngineName(str, enum.Enum):
    """Values of ``--engine``. ``auto`` takes LiteRT, else tflite-runtime, for TFLite files."""

    AUTO = "auto"
    LITERT = "litert"
    TFLITE_RUNTIME = "tflite-runtime"
    ONNXRUNTIME = "onnxruntime"
    EDGETPU = "edgetpu"


def parse_engine(text: str) -> tuple[EngineName, str | None]:
    """Parse an engine's name; ``edgetpu`` may carry a device of libedgetpu's, as in ``edgetpu:usb:1``.

    Raises:
        UsageError: No such engine.
    """
    name, _, device = text.value.partition(":") if isinstance(text, EngineName) else text.partition(":")
    known = [engine.value for engine in EngineName]
    if name not in known or (device and name != EngineName.EDGETPU.value):
        raise UsageError(f"--engine: expected {', '.join(known)} or edgetpu:DEVICE, got {text!r}")
    return EngineName(name), device or None


def open_engine(
    path: Path,
    engine: EngineName | str = EngineName.AUTO,
    threads: int = 1,
    *,
    structure: Structure | None = None,
    twin: str | None = None,
) -> Engine:
    """Open a ``.tflite`` or ``.onnx`` file, in this process and without a trial; see `edge_runtime.model.opening`.

    Args:
        path: The model file.
        engine: Which runtime, as `parse_engine` takes it; it must fit the file.
        threads: Threads inside one inference.
        structure: What `edge_runtime.tflite.validation.read_structure` gave; None checks a ``.tflite`` here.
        twin: How to run the same model without an Edge TPU, for a message.

    Raises:
        UsageError: The runtime cannot open this kind of file.
        EngineError: The runtime is not installed, lacks an operator or failed.
        IntegrityError: The file is damaged.
    """
    name, device = _fitting(path, engine)
    if path.suffix == ".onnx":
        from edge_runtime.engines.onnx import OnnxEngine

        return OnnxEngine(path, threads)
    from edge_runtime.engines.litert import LiteRtEngine
    from edge_runtime.tflite.validation import read_structure

    structure = structure or read_structure(path)
    if name is EngineName.EDGETPU and not structure.is_for_edgetpu:
        raise UsageError(
            f"{path}: was not compiled for the Edge TPU; give the edgetpu variant, or leave out --engine {name.value}"
        )
    return LiteRtEngine(path, threads, _runtime(name), structure=structure, device=device, twin=twin)


def import_runtime(path: Path, engine: EngineName | str = EngineName.AUTO) -> str:
    """Import the runtime that would open a file, and give its name and version, such as ``litert 2.3.0``.

    Raises:
        UsageError: The runtime cannot open this kind of file.
        EngineError: It is not installed.
    """
    name, _ = _fitting(path, engine)
    if path.suffix == ".onnx":
        from edge_runtime.engines.onnx import import_onnxruntime

        return f"onnxruntime {import_onnxruntime().__version__}"
    from edge_runtime.engines.litert import import_tflite, tflite_version

    runtime, _ = import_tflite(_runtime(name))
    return f"{runtime} {tflite_version(runtime)}"


def _fitting(path: Path, engine: EngineName | str) -> tuple[EngineName, str | None]:
    name, device = parse_engine(engine)
    is_onnx = path.suffix == ".onnx"
    if is_onnx != (name is EngineName.ONNXRUNTIME) and name is not EngineName.AUTO:
        fitting = "onnxruntime" if is_onnx else "litert or tflite-runtime"
        raise UsageError(f"{path}: engine {name.value} cannot open this file; use --engine {fitting}")
    return name, device


def _runtime(name: EngineName) -> str | None:
    return None if name in (EngineName.AUTO, EngineName.EDGETPU) else name.value
