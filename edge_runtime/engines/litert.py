"""LiteRT and tflite-runtime: the only place that imports ``ai_edge_litert`` or ``tflite_runtime``."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.contract import TensorSpec
from edge_runtime.engines.base import Engine
from edge_runtime.errors import CompatibilityError, EngineError, IntegrityError

# Name on the command line -> (module with Interpreter, distribution).
_RUNTIMES = {
    "litert": ("ai_edge_litert.interpreter", "ai-edge-litert"),
    "tflite-runtime": ("tflite_runtime.interpreter", "tflite-runtime"),
}


class LiteRtEngine(Engine):
    """A TFLite model in LiteRT or tflite-runtime, on the CPU through XNNPACK.

    Args:
        path: The ``.tflite`` file.
        threads: Threads inside one inference.
        runtime: ``litert`` or ``tflite-runtime``; None takes the first that is installed, in this order.

    Raises:
        EngineError: No such runtime is installed, or it does not know an operator of the model.
        IntegrityError: The file is not a whole TFLite model.
        CompatibilityError: The model does not have one image input and one output.
    """

    def __init__(self, path: Path, threads: int = 1, runtime: str | None = None) -> None:
        self.name, module = _import_runtime(runtime)
        try:
            self._interpreter: Any = module.Interpreter(model_path=str(path), num_threads=threads)
        except ValueError as error:
            reason = str(error).strip().rstrip(".")
            raise IntegrityError(f"{path}: expected a TFLite model, but {self.name} says: {reason}") from error
        try:
            self._interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise EngineError(_refusal(path, self.name, self.version, error)) from error
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        if len(inputs) != 1 or len(outputs) != 1:
            raise CompatibilityError(
                f"{path}: expected one input and one output, got {len(inputs)} and {len(outputs)}; "
                "only image classifiers are supported"
            )
        self.input, self.output = _tensor_info(inputs[0]), _tensor_info(outputs[0])
        self._input_index, self._output_index = inputs[0]["index"], outputs[0]["index"]

    @property
    def version(self) -> str:
        """Version of the installed distribution."""
        # Imported when asked for, because it costs a cold start 15 ms.
        import importlib.metadata

        return importlib.metadata.version(_RUNTIMES[self.name][1])

    def invoke(self, input_nhwc: NDArray[Any]) -> NDArray[Any]:
        """Run one picture; see `Engine.invoke`."""
        try:
            self._interpreter.set_tensor(self._input_index, input_nhwc)
            self._interpreter.invoke()
        except (RuntimeError, ValueError) as error:
            raise EngineError(f"{self.name} failed: {str(error).strip()}") from error
        output: NDArray[Any] = self._interpreter.get_tensor(self._output_index)
        return output

    def close(self) -> None:
        """Release the interpreter."""
        self._interpreter = None


def _import_runtime(wanted: str | None) -> tuple[str, ModuleType]:
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


def _refusal(path: Path, runtime: str, version: str, error: Exception) -> str:
    text = " ".join(str(error).split())
    if "edgetpu-custom-op" in text:
        return (
            f"{path}: was compiled for the Edge TPU, and no Edge TPU delegate is in use; "
            "give the int8 variant of the same model instead"
        )
    reason = text.partition(" See instructions")[0].rstrip(".")
    return f"{path}: uses what {runtime} {version} does not have ({reason}); a newer runtime may run it"


def _tensor_info(detail: dict[str, Any]) -> TensorSpec:
    scale, zero_point = detail["quantization"]
    return TensorSpec(
        name=str(detail["name"]),
        shape=tuple(int(side) for side in detail["shape"]),
        dtype=np.dtype(detail["dtype"]).name,
        scale=float(scale),
        zero_point=int(zero_point),
    )
