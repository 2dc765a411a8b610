"""Engine protocol, engine names, and opening a model file in its runtime.

Imports neither numpy nor a runtime, so that the command line reads the engine names from here.
"""

from __future__ import annotations

import enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from edge_runtime.contract import TensorSpec
from edge_runtime.errors import CompatibilityError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edge_runtime.tflite.validation import Structure


class EngineName(str, enum.Enum):
    """Values of ``--engine``. ``auto`` takes LiteRT, else tflite-runtime, for TFLite files."""

    AUTO = "auto"
    LITERT = "litert"
    TFLITE_RUNTIME = "tflite-runtime"
    ONNXRUNTIME = "onnxruntime"
    EDGETPU = "edgetpu"


class Engine(Protocol):
    """One opened model with one input and one output. Not thread-safe: use one for each thread."""

    name: str
    """``litert``, ``tflite-runtime`` or ``onnxruntime``."""

    accelerator: str | None = None
    """``edgetpu`` for a model that runs on an Edge TPU; None for the CPU alone."""

    input: TensorSpec
    output: TensorSpec

    @property
    def version(self) -> str:
        """Version of the runtime, such as ``2.3.0``."""
        ...

    def invoke(self, input_nhwc: NDArray[Any]) -> NDArray[Any]:
        """Run one image.

        Args:
            input_nhwc: Array of ``input.shape`` and ``input.dtype``.

        Returns:
            A fresh array of ``output.shape`` and ``output.dtype``.

        Raises:
            EngineError: The runtime refused the input or failed, or the engine is closed.
        """
        ...

    def close(self) -> None:
        """Release the model; calling it again does nothing."""
        ...


def parse_engine(text: str) -> tuple[EngineName, str | None]:
    """Parse an engine name; ``edgetpu`` may carry a device in libedgetpu's notation, as in ``edgetpu:usb:1``.

    Raises:
        UsageError: No such engine.
    """
    name, _, device = (text.value if isinstance(text, EngineName) else text).partition(":")
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
    cpu_fallback: str | None = None,
) -> Engine:
    """Open a ``.tflite`` or ``.onnx`` file in this process, without the sandbox of `edge_runtime.model.bundle`.

    Args:
        path: The model file.
        engine: Runtime name as `parse_engine` takes it; it must fit the file.
        threads: Threads inside one inference, 1 or more.
        structure: Result of `read_structure` for a ``.tflite``; None reads it here.
        cpu_fallback: Advice on running the same model without an Edge TPU, for a message.

    Raises:
        UsageError: The runtime cannot open this kind of file.
        EngineError: The runtime is not installed, lacks an operator or failed.
        IntegrityError: The file is damaged.
    """
    name, device = _parse_for(path, engine)
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
    return LiteRtEngine(path, structure, threads, _tflite_runtime(name), device=device, cpu_fallback=cpu_fallback)


def import_runtime(path: Path, engine: EngineName | str = EngineName.AUTO) -> str:
    """Import the runtime that would open a file, and give its name and version, such as ``litert 2.3.0``.

    Raises:
        UsageError: The runtime cannot open this kind of file.
        EngineError: It is not installed.
    """
    name, _ = _parse_for(path, engine)
    if path.suffix == ".onnx":
        from edge_runtime.engines.onnx import import_onnxruntime

        return f"onnxruntime {import_onnxruntime().__version__}"
    from edge_runtime.engines.litert import import_tflite, tflite_version

    runtime, _ = import_tflite(_tflite_runtime(name))
    return f"{runtime} {tflite_version(runtime)}"


def is_utf8_name(path: Path) -> bool:
    """Tell whether a runtime can open the file by its name; others are given its content."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def not_a_classifier(path: Path, inputs: int, outputs: int) -> CompatibilityError:
    """Make the error for a model without exactly one input and one output."""
    return CompatibilityError(
        f"{path}: expected one input and one output, got {inputs} and {outputs}; only image classifiers are supported"
    )


def _parse_for(path: Path, engine: EngineName | str) -> tuple[EngineName, str | None]:
    """Parse an engine name and refuse one that cannot open this kind of file."""
    name, device = parse_engine(engine)
    is_onnx = path.suffix == ".onnx"
    if is_onnx != (name is EngineName.ONNXRUNTIME) and name is not EngineName.AUTO:
        fitting = "onnxruntime" if is_onnx else "litert or tflite-runtime"
        raise UsageError(f"{path}: engine {name.value} cannot open this file; use --engine {fitting}")
    return name, device


def _tflite_runtime(name: EngineName) -> str | None:
    return None if name in (EngineName.AUTO, EngineName.EDGETPU) else name.value
