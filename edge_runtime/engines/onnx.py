"""ONNX Runtime engine on the CPU."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from edge_runtime.contract import TensorSpec
from edge_runtime.engines.base import Engine, is_utf8_name, not_a_classifier
from edge_runtime.errors import CompatibilityError, EngineError, IntegrityError

_DTYPES = {"tensor(uint8)": "uint8", "tensor(int8)": "int8", "tensor(float)": "float32"}
_ERRORS_ONLY = 3


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
        onnxruntime = import_onnxruntime()
        self._version: str = onnxruntime.__version__
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = _ERRORS_ONLY
        self._errors: tuple[type[Exception], ...] = _runtime_errors(onnxruntime)
        model = str(path) if is_utf8_name(path) else path.read_bytes()
        try:
            self._session: Any = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except self._errors as error:
            reason = re.sub(r"\s+", " ", str(error)).strip()
            raise IntegrityError(f"{path}: ONNX Runtime {self.version} cannot open it ({reason})") from error
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or not outputs:
            raise not_a_classifier(path, len(inputs), len(outputs))
        self.input, self.output = _tensor_info(path, inputs[0]), _tensor_info(path, outputs[0])

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


def import_onnxruntime() -> Any:
    """Import ONNX Runtime.

    Raises:
        EngineError: It is not installed.
    """
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


def _tensor_info(path: Path, value: Any) -> TensorSpec:
    if value.type not in _DTYPES:
        raise CompatibilityError(f"{path}: expected uint8, int8 or float tensors, got {value.type}")
    shape = tuple(side if isinstance(side, int) else 1 for side in value.shape)
    return TensorSpec(name=value.name, shape=shape, dtype=_DTYPES[value.type], scale=0.0, zero_point=0)
