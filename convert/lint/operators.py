"""Operators of a TFLite model as plain data, and the runtime versions that have them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from convert.tflite_model import builtin_code, text
from edge_runtime.tflite import versions
from edge_runtime.tflite.schema import CUSTOM, OPERATOR_NAMES
from edge_runtime.tflite.validation import OperatorCode
from edge_runtime.tflite.versions import Target, Unsupported

_MAX_CONSTANTS = 64  # axes, strides and paddings are shorter; weights need not be read


@dataclass(frozen=True)
class TensorFacts:
    """Tensor of a graph.

    Attributes:
        name: Name in the file.
        shape: Sides, with -1 for a side other than the batch that is open until the model runs. An open batch has the
            file's own value, mostly 1, which runtimes allocate by default.
        dtype: Lower-case name of the schema's type, such as ``int8``.
        quantized: True if the tensor has a scale.
        data_bytes: Size of constant data, in bytes; 0 for a computed tensor.
        integers: Values of a constant of at most 64 int32 or int64 values, or None.
        all_zero: True for a constant whose real values are all zero.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    quantized: bool = True
    data_bytes: int = 0
    integers: tuple[int, ...] | None = None
    all_zero: bool = False

    @property
    def is_constant(self) -> bool:
        """True if the file contains the values."""
        return self.data_bytes > 0


@dataclass(frozen=True)
class OperatorFacts:
    """Operator of a graph.

    Attributes:
        index: Position in the file, counted through all graphs.
        graph: Number of its graph; 0 is the main graph.
        name: Name in the schema, or the name of a custom operator.
        version: Version of the built-in operator.
        is_custom: True if the operator is not built in.
        inputs: Tensor numbers and facts, without absent optional inputs.
        outputs: Tensor numbers and facts.
        options: Options object of the schema, or None.
    """

    index: int
    graph: int
    name: str
    version: int
    is_custom: bool
    inputs: tuple[tuple[int, TensorFacts], ...]
    outputs: tuple[tuple[int, TensorFacts], ...]
    options: Any = None

    def input(self, position: int) -> TensorFacts | None:
        """Facts of one input, or None without such an input."""
        return self.inputs[position][1] if position < len(self.inputs) else None

    def option(self, name: str, default: int = 0) -> int:
        """Value of an integer option; ``default`` if the file omits it."""
        value = getattr(self.options, name, None)
        return default if value is None else int(value)


def operator_codes(model: Any) -> Iterator[OperatorCode]:
    """Yield the code of every operator of every graph, in the file's order."""
    for graph in model.subgraphs or []:
        for operator in graph.operators or []:
            yield _code(model.operatorCodes[operator.opcodeIndex])


def read_operators(model: Any) -> tuple[OperatorFacts, ...]:
    """Collect every operator with its tensors from a model of `convert.tflite_model.read_model`."""
    codes = enumerate(operator_codes(model))
    dtypes = _dtype_names()
    found = []
    for number, graph in enumerate(model.subgraphs):
        tensors = [_tensor_facts(tensor, model.buffers, dtypes) for tensor in graph.tensors]
        for operator in graph.operators:
            index, (name, version, is_custom) = next(codes)
            inputs = tuple((int(i), tensors[i]) for i in operator.inputs if i != -1)
            outputs = tuple((int(i), tensors[i]) for i in operator.outputs)
            options = operator.builtinOptions or operator.builtinOptions2
            found.append(OperatorFacts(index, number, name, version, is_custom, inputs, outputs, options))
    return tuple(found)


def _code(entry: Any) -> OperatorCode:
    number = builtin_code(entry)
    name = OPERATOR_NAMES[number] if 0 <= number < len(OPERATOR_NAMES) else f"BUILTIN_{number}"
    if name == CUSTOM:
        name = text(entry.customCode) or "a custom operator without a name"
        return OperatorCode(name, int(entry.version), is_custom=True)
    return OperatorCode(name, int(entry.version), is_custom=False)


def _dtype_names() -> dict[int, str]:
    from ai_edge_litert import schema_py_generated as schema

    return {value: name.lower() for name, value in vars(schema.TensorType).items() if isinstance(value, int)}


def _tensor_facts(tensor: Any, buffers: list[Any], dtypes: dict[int, str]) -> TensorFacts:
    shape = list(tensor.shape)
    if tensor.shapeSignature is not None and len(tensor.shapeSignature) == len(shape):
        shape[1:] = tensor.shapeSignature[1:]
    dtype = dtypes.get(tensor.type, f"type {tensor.type}")
    scale = tensor.quantization.scale if tensor.quantization else None
    data = buffers[tensor.buffer].data if tensor.buffer < len(buffers) else None
    raw = np.zeros(0, np.uint8) if data is None else np.asarray(data, np.uint8)
    return TensorFacts(
        name=tensor.name or "",
        shape=tuple(int(side) for side in shape),
        dtype=dtype,
        quantized=scale is not None and len(scale) > 0,
        data_bytes=raw.size,
        integers=_integers(raw, dtype, math.prod(tensor.shape)),
        all_zero=raw.size > 0 and _is_zero(raw, tensor.quantization),
    )


def _integers(raw: np.ndarray[Any, np.dtype[np.uint8]], dtype: str, count: int) -> tuple[int, ...] | None:
    if dtype not in ("int32", "int64") or not 0 < count <= _MAX_CONSTANTS:
        return None
    values = np.dtype("<i4" if dtype == "int32" else "<i8")
    if raw.size != count * values.itemsize:
        return None
    return tuple(int(value) for value in np.frombuffer(raw.tobytes(), values))


def _is_zero(raw: np.ndarray[Any, np.dtype[np.uint8]], quantization: Any) -> bool:
    points = quantization.zeroPoint if quantization and quantization.zeroPoint is not None else []
    zero = int(points[0]) & 0xFF if len(points) else 0
    return bool(np.all(raw == zero))


def minimum_runtime(model: Any) -> str:
    """Find the lowest runtime with every operator of a ``ModelT``; see `edge_runtime.tflite.versions`."""
    return versions.minimum_runtime(operator_codes(model))


def unsupported(model: Any, target: Target) -> list[Unsupported]:
    """List the operators of a ``ModelT`` that a runtime lacks."""
    return versions.unsupported(operator_codes(model), target)
