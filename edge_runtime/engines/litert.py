"""LiteRT and tflite-runtime engine, on the CPU or through the Edge TPU delegate.

The only module that imports ``ai_edge_litert`` or ``tflite_runtime``. libedgetpu is loaded by the runtime itself, so
pycoral is not needed.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.contract import TensorSpec
from edge_runtime.engines.base import Engine, is_utf8_name, not_a_classifier
from edge_runtime.errors import CompatibilityError, EngineError, IntegrityError
from edge_runtime.tflite.schema import EDGETPU_OPERATOR
from edge_runtime.tflite.validation import Structure
from edge_runtime.tflite.versions import check_runtime_supports

LIBRARY_VARIABLE = "EDGEKIT_EDGETPU_LIBRARY"
_LIBRARY = "libedgetpu.so.1"
# Name on the command line -> (module with Interpreter, distribution).
_RUNTIMES = {
    "litert": ("ai_edge_litert.interpreter", "ai-edge-litert"),
    "tflite-runtime": ("tflite_runtime.interpreter", "tflite-runtime"),
}


class LiteRtEngine(Engine):
    """A TFLite model in LiteRT or tflite-runtime: on the CPU through XNNPACK, or on the Edge TPU if compiled for it.

    Args:
        path: The ``.tflite`` file.
        structure: Result of `read_structure` for the file.
        threads: Threads inside one inference, 1 or more.
        runtime: ``litert`` or ``tflite-runtime``; None takes the first that is installed, in this order.
        device: Edge TPU as `load_delegate` takes it; None takes any.
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
            raise not_a_classifier(path, len(structure.inputs), len(structure.outputs))
        self.name, module = import_tflite(runtime)
        # The delegate brings this one operator, whose version means nothing to the runtime.
        codes = [code for code in structure.codes if code.name != EDGETPU_OPERATOR]
        check_runtime_supports(path, codes, self.name, self.version)
        delegates = None
        if structure.is_for_edgetpu:
            delegates, self.accelerator = [load_delegate(path, module, device, cpu_fallback)], "edgetpu"
        # By name, so that the file is mapped.
        model = {"model_path": str(path)} if is_utf8_name(path) else {"model_content": path.read_bytes()}
        try:
            self._interpreter: Any = module.Interpreter(**model, num_threads=threads, experimental_delegates=delegates)
        except (ValueError, RuntimeError) as error:
            raise IntegrityError(f"{path}: expected a TFLite model, but {self.name} says: {_line(error)}") from error
        try:
            self._interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise EngineError(
                f"{path}: {self.name} {self.version} cannot run it ({_line(error)}); another release of it may"
            ) from error
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        self.input, self.output = _tensor_info(path, inputs[0]), _tensor_info(path, outputs[0])
        self._input_index, self._output_index = inputs[0]["index"], outputs[0]["index"]

    @property
    def version(self) -> str:
        """Version of the installed distribution."""
        return tflite_version(self.name)

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


def import_tflite(wanted: str | None) -> tuple[str, ModuleType]:
    """Import a runtime.

    Args:
        wanted: ``litert`` or ``tflite-runtime``; None takes the first that is installed.

    Returns:
        Its name, and its module with ``Interpreter``.

    Raises:
        EngineError: It is not installed, or none is.
    """
    reasons = []
    for name in [wanted] if wanted else list(_RUNTIMES):
        module, distribution = _RUNTIMES[name]
        try:
            return name, importlib.import_module(module)
        except ImportError as error:
            reasons.append(f"{distribution}: {error}")
    raise EngineError(
        f"no TFLite runtime could be imported ({'; '.join(reasons)}); run pip install ai-edge-litert, "
        "or pip install 'edgekit[tflite-runtime]' in a virtual environment of its own"
    )


@functools.cache
def tflite_version(name: str) -> str:
    """Version of an imported runtime's distribution, such as ``2.3.0``; ``unknown`` if it has no metadata."""
    module, distribution = _RUNTIMES[name]
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
    try:
        ctypes.CDLL(_edgetpu_library())
    except OSError:
        return False
    return True


def load_delegate(path: Path, runtime: ModuleType, device: str | None, cpu_fallback: str | None) -> Any:
    """Load the Edge TPU delegate.

    Args:
        path: The model file, for the message.
        runtime: Module with the function ``load_delegate``.
        device: Edge TPU in libedgetpu's notation: ``usb``, ``pci``, ``usb:1``, ``:0``; None takes any.
        cpu_fallback: Advice on running the same model without an Edge TPU, for the message.

    Raises:
        EngineError: There is no such library, or no such device.
    """
    library = _edgetpu_library()
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


def _edgetpu_library() -> str:
    """Name or path of the delegate's library: ``$EDGEKIT_EDGETPU_LIBRARY``, else ``libedgetpu.so.1``."""
    return os.environ.get(LIBRARY_VARIABLE) or _LIBRARY


def _line(error: Exception) -> str:
    text = " ".join(str(error).split()).partition(" See instructions")[0].rstrip(".")
    return text or type(error).__name__


def _tensor_info(path: Path, detail: dict[str, Any]) -> TensorSpec:
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
