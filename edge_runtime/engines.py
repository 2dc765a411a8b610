"""Runtimes behind one protocol: LiteRT, tflite-runtime, ONNX Runtime and the Edge TPU delegate.

The only module that imports a runtime, and only when a model is opened. It imports no numpy either, so that the
command line reads the engine names from here. libedgetpu is loaded by the runtime itself, so pycoral is not needed.
"""

from __future__ import annotations

import enum
import functools
import importlib
import os
import re
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

from edge_runtime.contract import TensorSpec
from edge_runtime.errors import CompatibilityError, EngineError, IntegrityError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edge_runtime.tflite.validation import Structure

EDGETPU_LIBRARY_VARIABLE = "EDGEKIT_EDGETPU_LIBRARY"
_EDGETPU_LIBRARY = "libedgetpu.so.1"
# TFLite runtime -> (module with Interpreter, distribution).
_TFLITE = {
    "litert": ("ai_edge_litert.interpreter", "ai-edge-litert"),
    "tflite-runtime": ("tflite_runtime.interpreter", "tflite-runtime"),
}
_ONNX_DTYPES = {"tensor(uint8)": "uint8", "tensor(int8)": "int8", "tensor(float)": "float32"}
_ONNX_LOG_ERRORS_ONLY = 3


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
    name, device, runtime = _parse_for(path, engine)
    if path.suffix == ".onnx":
        return OnnxEngine(path, threads)
    from edge_runtime.tflite.validation import read_structure

    structure = structure or read_structure(path)
    if name is EngineName.EDGETPU and not structure.is_for_edgetpu:
        raise UsageError(
            f"{path}: was not compiled for the Edge TPU; give the edgetpu variant, or leave out --engine {name.value}"
        )
    return LiteRtEngine(path, structure, threads, runtime, device=device, cpu_fallback=cpu_fallback)


def import_runtime(path: Path, engine: EngineName | str = EngineName.AUTO) -> str:
    """Import the runtime that would open a file, and give its name and version, such as ``litert 2.3.0``.

    Raises:
        UsageError: The runtime cannot open this kind of file.
        EngineError: It is not installed.
    """
    *_, runtime = _parse_for(path, engine)
    if path.suffix == ".onnx":
        return f"onnxruntime {_import_onnxruntime().__version__}"
    name, _ = _import_tflite(runtime)
    return f"{name} {_tflite_version(name)}"


def _is_utf8_name(path: Path) -> bool:
    """Tell whether a runtime can open the file by its name; otherwise it gets the content."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def _not_a_classifier(path: Path, inputs: int, outputs: int) -> CompatibilityError:
    return CompatibilityError(
        f"{path}: expected one input and one output, got {inputs} and {outputs}; only image classifiers are supported"
    )


def _parse_for(path: Path, engine: EngineName | str) -> tuple[EngineName, str | None, str | None]:
    """Parse an engine name for a file: engine, Edge TPU device, and the TFLite runtime that is wanted."""
    name, device = parse_engine(engine)
    is_onnx = path.suffix == ".onnx"
    if is_onnx != (name is EngineName.ONNXRUNTIME) and name is not EngineName.AUTO:
        fitting = "onnxruntime" if is_onnx else "litert or tflite-runtime"
        raise UsageError(f"{path}: engine {name.value} cannot open this file; use --engine {fitting}")
    return name, device, None if name in (EngineName.AUTO, EngineName.EDGETPU) else name.value


class LiteRtEngine(Engine):
    """A TFLite model in LiteRT or tflite-runtime: on the CPU through XNNPACK, or on the Edge TPU if compiled for it.

    Args:
        path: The ``.tflite`` file.
        structure: Result of `read_structure` for the file.
        threads: Threads inside one inference, 1 or more.
        runtime: ``litert`` or ``tflite-runtime``; None takes the first that is installed, in this order.
        device: Edge TPU in libedgetpu's notation: ``usb``, ``pci``, ``usb:1``, ``:0``; None takes any.
        cpu_fallback: Advice on running the same model without an Edge TPU, for a message.

    Raises:
        EngineError: No such runtime is installed, it lacks an operator of the model, or there is no Edge TPU.
        IntegrityError: The file is not a whole TFLite model.
        CompatibilityError: The model does not have one image input and one output.
    """

    def __init__(
        self,
        path: Path,
        structure: Structure,
        threads: int = 1,
        runtime: str | None = None,
        *,
        device: str | None = None,
        cpu_fallback: str | None = None,
    ) -> None:
        if (len(structure.inputs), len(structure.outputs)) != (1, 1):
            raise _not_a_classifier(path, len(structure.inputs), len(structure.outputs))
        self.name, module = _import_tflite(runtime)
        delegates = None
        if structure.is_for_edgetpu:
            delegates, self.accelerator = [_load_delegate(path, module, device, cpu_fallback)], "edgetpu"
        # By name, so that the file is mapped.
        model = {"model_path": str(path)} if _is_utf8_name(path) else {"model_content": path.read_bytes()}
        is_opened = False
        try:
            self._interpreter: Any = module.Interpreter(**model, num_threads=threads, experimental_delegates=delegates)
            is_opened = True
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            # Imported here because only a refused model needs the table of operator versions.
            from edge_runtime.tflite.versions import check_runtime_supports

            check_runtime_supports(path, structure.codes, self.name, self.version)
            if is_opened:
                raise EngineError(
                    f"{path}: {self.name} {self.version} cannot run it ({_line(error)}); another release of it may"
                ) from error
            raise IntegrityError(f"{path}: expected a TFLite model, but {self.name} says: {_line(error)}") from error
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        self.input, self.output = _litert_tensor(path, inputs[0]), _litert_tensor(path, outputs[0])
        self._input_index, self._output_index = inputs[0]["index"], outputs[0]["index"]

    @property
    def version(self) -> str:
        """Version of the installed distribution."""
        return _tflite_version(self.name)

    def invoke(self, input_nhwc: NDArray[Any]) -> NDArray[Any]:
        """Run one image; see `Engine.invoke`."""
        if self._interpreter is None:
            raise EngineError(f"{self.name} was closed; open the model again")
        try:
            self._interpreter.set_tensor(self._input_index, input_nhwc)
            self._interpreter.invoke()
            output: NDArray[Any] = self._interpreter.get_tensor(self._output_index)
        except (RuntimeError, ValueError) as error:
            raise EngineError(f"{self.name} failed: {_line(error)}") from error
        return output

    def close(self) -> None:
        """Release the interpreter."""
        self._interpreter = None


def _import_tflite(wanted: str | None) -> tuple[str, ModuleType]:
    """Import the wanted TFLite runtime, else the first that is installed: its name, and its module."""
    reasons = []
    for name in [wanted] if wanted else list(_TFLITE):
        module, distribution = _TFLITE[name]
        try:
            return name, importlib.import_module(module)
        except ImportError as error:
            reasons.append(f"{distribution}: {error}")
    raise EngineError(
        f"no TFLite runtime could be imported ({'; '.join(reasons)}); run pip install ai-edge-litert, "
        "or pip install 'edgekit[tflite-runtime]' in a virtual environment of its own"
    )


@functools.cache
def _tflite_version(name: str) -> str:
    """Version of an imported runtime's distribution, such as ``2.3.0``; ``unknown`` if it has no metadata."""
    module, distribution = _TFLITE[name]
    installed = Path(importlib.import_module(module).__file__ or "").parents[1]
    prefix = distribution.replace("-", "_") + "-"
    for folder in installed.glob(f"{prefix}*.dist-info"):
        return folder.name[len(prefix) : -len(".dist-info")]
    # Imported last, because it costs a cold start 15 to 30 ms.
    from importlib import metadata

    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "unknown"


def is_edgetpu_library_installed() -> bool:
    """Tell whether the delegate's library loads; a missing device is found only when a model is opened."""
    import ctypes

    try:
        ctypes.CDLL(os.environ.get(EDGETPU_LIBRARY_VARIABLE) or _EDGETPU_LIBRARY)
    except OSError:
        return False
    return True


def _load_delegate(path: Path, runtime: ModuleType, device: str | None, cpu_fallback: str | None) -> Any:
    import ctypes

    library = os.environ.get(EDGETPU_LIBRARY_VARIABLE) or _EDGETPU_LIBRARY
    try:
        # Loaded here first, because the runtime's own class prints to standard error if the library does not load.
        ctypes.CDLL(library)
        return runtime.load_delegate(library, {"device": device} if device else {})
    except (OSError, ValueError, RuntimeError) as error:
        which = f" as device {device}" if device else ""
        raise EngineError(
            f"{path}: was compiled for the Edge TPU, and its delegate {library} cannot be used{which} "
            f"({_line(error)}); plug the Edge TPU in and install libedgetpu1-std, or "
            f"{cpu_fallback or 'give the int8 variant of the same model'}"
        ) from error


def _line(error: Exception) -> str:
    text = " ".join(str(error).split()).partition(" See instructions")[0].rstrip(".")
    return text or type(error).__name__


def _litert_tensor(path: Path, detail: dict[str, Any]) -> TensorSpec:
    import numpy as np

    scale, zero_point = detail["quantization"]
    try:
        dtype = np.dtype(detail["dtype"]).name
    except TypeError as error:
        raise CompatibilityError(f"{path}: has an input or output of a type that numpy does not know") from error
    return TensorSpec(
        name=str(detail["name"]),
        shape=tuple(int(side) for side in detail["shape"]),
        dtype=dtype,
        scale=float(scale),
        zero_point=int(zero_point),
    )


class OnnxEngine(Engine):
    """An ONNX model in ONNX Runtime.

    Args:
        path: The ``.onnx`` file.
        threads: Threads inside one inference, 1 or more.

    Raises:
        EngineError: onnxruntime is not installed, or does not know an operator of the model.
        IntegrityError: The file is not a whole ONNX model.
        CompatibilityError: The model does not have one image input and one output.
    """

    name = "onnxruntime"

    def __init__(self, path: Path, threads: int = 1) -> None:
        onnxruntime = _import_onnxruntime()
        self._version: str = onnxruntime.__version__
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = _ONNX_LOG_ERRORS_ONLY
        self._errors: tuple[type[Exception], ...] = _runtime_errors(onnxruntime)
        model = str(path) if _is_utf8_name(path) else path.read_bytes()
        try:
            self._session: Any = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except self._errors as error:
            reason = re.sub(r"\s+", " ", str(error)).strip()
            raise IntegrityError(f"{path}: ONNX Runtime {self.version} cannot open it ({reason})") from error
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or not outputs:
            raise _not_a_classifier(path, len(inputs), len(outputs))
        self.input, self.output = _onnx_tensor(path, inputs[0]), _onnx_tensor(path, outputs[0])

    @property
    def version(self) -> str:
        """Version of the installed package."""
        return self._version

    def invoke(self, input_nhwc: NDArray[Any]) -> NDArray[Any]:
        """Run one image; see `Engine.invoke`."""
        if self._session is None:
            raise EngineError(f"{self.name} was closed; open the model again")
        try:
            outputs = self._session.run([self.output.name], {self.input.name: input_nhwc})
        except self._errors as error:
            raise EngineError(f"onnxruntime failed: {error}") from error
        output: NDArray[Any] = outputs[0]
        return output

    def close(self) -> None:
        """Release the session."""
        self._session = None


def _import_onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise EngineError(
            f"an .onnx file needs ONNX Runtime, which cannot be imported ({error}); run pip install 'edgekit[onnx]'"
        ) from error
    return onnxruntime


def _runtime_errors(onnxruntime: Any) -> tuple[type[Exception], ...]:
    """Exceptions that ONNX Runtime can raise; they share no base class but Exception."""
    state = onnxruntime.capi.onnxruntime_pybind11_state
    names = ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoSuchFile", "NotImplemented")
    found = [getattr(state, name) for name in (*names, "RuntimeException") if hasattr(state, name)]
    return (*found, RuntimeError, ValueError)


def _onnx_tensor(path: Path, value: Any) -> TensorSpec:
    if value.type not in _ONNX_DTYPES:
        raise CompatibilityError(f"{path}: expected uint8, int8 or float tensors, got {value.type}")
    shape = tuple(side if isinstance(side, int) else 1 for side in value.shape)
    return TensorSpec(name=value.name, shape=shape, dtype=_ONNX_DTYPES[value.type], scale=0.0, zero_point=0)
