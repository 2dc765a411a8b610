"""uint8 at both ends of an integer model: pixels go in untouched, 256ths come out.

The head of the float graph (cast, scaling) is replaced by the quantization of the input itself: a uint8 pixel is read
as ``scale * (pixel - zero_point)``. What cannot be said that way, because the zero point must be whole, is a shift of
less than half a grey level, which the first layer's bias makes good (`Head.shift`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from convert.quantize.graph import FloatGraph, operator_names, text
from convert.tflite_model import pack_model, unpack_model

_UINT8, _INT8 = 3, 9
_INPUT = "image"


@dataclass(frozen=True)
class Head:
    """A float model whose input is what the first real operator takes, not pixels.

    Attributes:
        data: The model.
        tensor: Name of its input tensor.
        low, high: Range that makes one grey level one step.
        shift: What the quantized input is larger by than the true one.
    """

    data: bytes
    tensor: str
    low: float
    high: float
    shift: float


def cut_head(graph: FloatGraph) -> Head | None:
    """Take cast and scaling off the graph; None where it does not begin with them."""
    pixels = graph.pixels()
    if pixels.operators == 0 or pixels.scale <= 0:
        return None
    zero_point = round(-pixels.offset / pixels.scale)
    if not 0 <= zero_point <= 255:
        return None
    model = unpack_model(graph.data)
    subgraph = model.subgraphs[0]
    index = next(i for i, tensor in enumerate(subgraph.tensors) if text(tensor.name) == pixels.tensor)
    subgraph.operators = subgraph.operators[pixels.operators :]
    subgraph.inputs = [index]
    model.signatureDefs = None
    low = -zero_point * pixels.scale
    return Head(
        data=pack_model(model),
        tensor=pixels.tensor,
        low=low,
        high=low + 255 * pixels.scale,
        shift=low - pixels.offset,
    )


def use_uint8(model: Any) -> None:
    """Put a requantization from uint8 before a ``ModelT``'s int8 input, and one to uint8 after its int8 output.

    An int8 input that is only ever widened to float32 becomes uint8 itself.
    """
    graph = model.subgraphs[0]
    model.signatureDefs = None
    source = int(graph.inputs[0])
    consumers = {_name(model, operator) for operator in graph.operators if source in operator.inputs}
    if graph.tensors[source].type == _INT8 and consumers == {"DEQUANTIZE"}:
        tensor = graph.tensors[source]
        tensor.name, tensor.type = _INPUT, _UINT8
        tensor.quantization.zeroPoint = np.asarray(tensor.quantization.zeroPoint, np.int64) + 128
    elif graph.tensors[source].type == _INT8:
        pixels = _uint8_twin(graph, source, _INPUT)
        graph.operators = [_requantize(model, pixels, source), *graph.operators]
        graph.inputs = [pixels]
    target = int(graph.outputs[0])
    if graph.tensors[target].type == _INT8:
        result = _uint8_twin(graph, target, "probabilities")
        graph.operators = [*graph.operators, _requantize(model, target, result)]
        graph.outputs = [result]


def _name(model: Any, operator: Any) -> str:
    entry = model.operatorCodes[operator.opcodeIndex]
    return operator_names()[max(entry.builtinCode, entry.deprecatedBuiltinCode)]


def _uint8_twin(graph: Any, index: int, name: str) -> int:
    """A new tensor with the same real values in uint8."""
    from ai_edge_litert import schema_py_generated as schema

    original = graph.tensors[index]
    if text(original.name) == name:
        original.name = f"{name}_int8"
    twin, parameters = schema.TensorT(), schema.QuantizationParametersT()
    parameters.scale = np.asarray(original.quantization.scale, np.float32)
    parameters.zeroPoint = np.asarray(original.quantization.zeroPoint, np.int64) + 128
    twin.name, twin.type, twin.shape, twin.quantization = name, _UINT8, original.shape, parameters
    graph.tensors.append(twin)
    return len(graph.tensors) - 1


def _requantize(model: Any, source: int, target: int) -> Any:
    """A QUANTIZE operator; between uint8 and int8 of one scale it only flips the highest bit."""
    from ai_edge_litert import schema_py_generated as schema

    operator = schema.OperatorT()
    operator.opcodeIndex = _opcode(model, "QUANTIZE")
    operator.inputs, operator.outputs = [source], [target]
    operator.builtinOptionsType = schema.BuiltinOptions.QuantizeOptions
    operator.builtinOptions = schema.QuantizeOptionsT()
    return operator


def _opcode(model: Any, name: str) -> int:
    from ai_edge_litert import schema_py_generated as schema

    code = next(code for code, known in operator_names().items() if known == name)
    for index, entry in enumerate(model.operatorCodes):
        if max(entry.builtinCode, entry.deprecatedBuiltinCode) == code:
            return index
    entry = schema.OperatorCodeT()
    entry.builtinCode = entry.deprecatedBuiltinCode = code
    entry.version = 1
    model.operatorCodes.append(entry)
    return len(model.operatorCodes) - 1
