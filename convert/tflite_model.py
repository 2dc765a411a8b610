"""TFLite FlatBuffers: read and write them as objects, and list their operators as plain data.

`edge_runtime.tflite` validates untrusted files first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np

from edge_runtime.tflite import versions
from edge_runtime.tflite.schema import CUSTOM, OPERATOR_NAMES
from edge_runtime.tflite.validation import OperatorCode, read_structure
from edge_runtime.tflite.versions import Target, Unsupported

_IDENTIFIER = b"TFL3"


def unpack_model(data: bytes) -> Any:
    """Unpack the trusted bytes of a ``.tflite`` file to a ``ModelT`` object tree; see `read_model` for other files."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(bytearray(data), 0)
    for buffer in model.buffers or []:
        # A buffer's bytes may lie after the FlatBuffer (unless its offset is 0 or 1); runtimes before TensorFlow 2.15
        # cannot read that, so they are moved inside.
        if buffer.offset and buffer.offset > 1:
            buffer.data = np.frombuffer(data, np.uint8, int(buffer.size), int(buffer.offset))
            buffer.offset = buffer.size = 0
    return model


def pack_model(model: Any) -> bytes:
    """Pack a ``ModelT`` object tree to the bytes of a ``.tflite`` file."""
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), _IDENTIFIER)
    return bytes(builder.Output())


def read_model(path: Path) -> Any:
    """Read any ``.tflite`` file to a ``ModelT`` object tree; a zip after the FlatBuffer (TFLite Metadata) is ignored.

    Every list is present, and names are text. `read_structure` checks that every tensor, buffer and operator code
    that an operator or graph names exists.

    Raises:
        ModelError: The file does not exist, or is larger than 1 GiB.
        IntegrityError: The file is not a complete TFLite model.
    """
    read_structure(path)
    model = unpack_model(path.read_bytes())
    for name in ("operatorCodes", "subgraphs", "buffers", "metadata"):
        setattr(model, name, getattr(model, name) or [])
    for code in model.operatorCodes:
        code.customCode = text(code.customCode)
    for entry in model.metadata:
        entry.name = text(entry.name)
    for graph in model.subgraphs:
        graph.tensors, graph.operators, graph.name = graph.tensors or [], graph.operators or [], text(graph.name)
        for tensor in graph.tensors:
            tensor.name, tensor.shape = text(tensor.name), _numbers(tensor.shape)
        for part in (graph, *graph.operators):
            part.inputs, part.outputs = _numbers(part.inputs), _numbers(part.outputs)
    return model


def text(value: bytes | str | None) -> str:
    """Decode a name; the FlatBuffer holds bytes, or None for a missing name."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value or ""


def operator_names() -> dict[int, str]:
    """Names of the builtin operators by code."""
    from ai_edge_litert import schema_py_generated as schema

    return {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}


def operator_name(model: Any, operator: Any) -> str:
    """Builtin name of an operator of a ``ModelT``."""
    return operator_names()[builtin_code(model.operatorCodes[operator.opcodeIndex])]


def builtin_code(entry: Any) -> int:
    """Builtin code of an ``OperatorCodeT``; codes under 127 may be in the deprecated field only."""
    return max(int(entry.builtinCode), int(entry.deprecatedBuiltinCode))


def _numbers(values: Any) -> list[int]:
    return [] if values is None else [int(value) for value in values]


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
    from ai_edge_litert import schema_py_generated as schema

    codes = enumerate(operator_codes(model))
    dtypes = {value: name.lower() for name, value in vars(schema.TensorType).items() if isinstance(value, int)}
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
