"""Finish a quantized TFLite model: uint8 input and output, and the operator versions that it needs.

The head of the float graph (cast, scaling) is replaced by the quantization of the input: a uint8 pixel is read as
``scale * (pixel - zero_point)``. The zero point must be an integer, which leaves a shift of up to half a grey level;
the first layer's bias compensates it (`Head.shift`).

ai-edge-quantizer changes the types of tensors and keeps each operator's version of the float model, so a runtime too
old for the types would not refuse the file but compute wrong results. The rules for versions are those of TensorFlow's
``lite/tools/versioning/op_version.cc``, for the operators and types that the quantizer writes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from convert.quantize.graph import CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED, FloatGraph
from convert.tflite_model import builtin_code, operator_name, operator_names, pack_model, text, unpack_model

_FLOAT32, _FLOAT16, _UINT8, _INT16, _INT8 = 0, 1, 3, 7, 9
_INPUT = "image"
# Version by the type of the first input: int8, int16.
_BY_TYPE = {
    (2, 3): (
        "ADD", "AVERAGE_POOL_2D", "BATCH_MATMUL", "CONCATENATION", "LOGISTIC", "MAX_POOL_2D", "MEAN", "MIRROR_PAD",
        "PACK", "PAD", "PADV2", "REDUCE_MAX", "REDUCE_MIN", "RELU", "RELU6", "RSQRT", "SOFTMAX", "TANH",
    ),
    (2, 4): (
        "EQUAL", "GATHER", "MAXIMUM", "MINIMUM", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "SLICE", "UNPACK",
    ),
    (2, 5): ("SUB", "TRANSPOSE"),
    (2, 1): (
        "DEPTH_TO_SPACE", "GELU", "NOT_EQUAL", "SPACE_TO_DEPTH", "SQUARED_DIFFERENCE", "STRIDED_SLICE", "SUM",
    ),
    (1, 3): ("GATHER_ND",),
    (3, 3): ("BROADCAST_TO",),
}  # fmt: skip
_PLAIN = {name: versions for versions, names in _BY_TYPE.items() for name in names}


@dataclass(frozen=True)
class Head:
    """Float model that starts behind the pixel scaling.

    Attributes:
        data: Bytes of the model.
        tensor: Name of its input tensor.
        low, high: Input range in which one grey level is one step.
        shift: Excess of the quantized input over the true one.
    """

    data: bytes
    tensor: str
    low: float
    high: float
    shift: float


def cut_head(graph: FloatGraph) -> Head | None:
    """Remove cast and scaling from the graph; None if it does not begin with them or no zero point fits."""
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
    return Head(pack_model(model), pixels.tensor, low, low + 255 * pixels.scale, low - pixels.offset)


def use_uint8(model: Any) -> None:
    """Add a requantization from uint8 before a ``ModelT``'s int8 input, and one to uint8 after its int8 output.

    An int8 input that is only widened to float32 becomes uint8 itself.
    """
    graph = model.subgraphs[0]
    model.signatureDefs = None
    source = int(graph.inputs[0])
    consumers = {operator_name(model, operator) for operator in graph.operators if source in operator.inputs}
    if graph.tensors[source].type == _INT8 and consumers == {"DEQUANTIZE"}:
        tensor = graph.tensors[source]
        tensor.name, tensor.type = _INPUT, _UINT8
        tensor.quantization.zeroPoint = np.asarray(tensor.quantization.zeroPoint, np.int64) + 128
    elif graph.tensors[source].type == _INT8:
        pixels = _uint8_copy(graph, source, _INPUT)
        graph.operators = [_requantize(model, pixels, source), *graph.operators]
        graph.inputs = [pixels]
    target = int(graph.outputs[0])
    if graph.tensors[target].type == _INT8:
        result = _uint8_copy(graph, target, "probabilities")
        graph.operators = [*graph.operators, _requantize(model, target, result)]
        graph.outputs = [result]


def _uint8_copy(graph: Any, index: int, name: str) -> int:
    """Add a tensor with the same real values in uint8."""
    from ai_edge_litert import schema_py_generated as schema

    original = graph.tensors[index]
    if text(original.name) == name:
        original.name = f"{name}_int8"
    copied, parameters = schema.TensorT(), schema.QuantizationParametersT()
    parameters.scale = np.asarray(original.quantization.scale, np.float32)
    parameters.zeroPoint = np.asarray(original.quantization.zeroPoint, np.int64) + 128
    copied.name, copied.type, copied.shape, copied.quantization = name, _UINT8, original.shape, parameters
    graph.tensors.append(copied)
    return len(graph.tensors) - 1


def _requantize(model: Any, source: int, target: int) -> Any:
    """Make a QUANTIZE operator; between uint8 and int8 of one scale it only flips the highest bit."""
    from ai_edge_litert import schema_py_generated as schema

    operator = schema.OperatorT()
    operator.opcodeIndex = _opcode(model, "QUANTIZE")
    operator.inputs, operator.outputs = [source], [target]
    operator.builtinOptionsType = schema.BuiltinOptions.QuantizeOptions
    operator.builtinOptions = schema.QuantizeOptionsT()
    return operator


def _opcode(model: Any, name: str) -> int:
    code = next(code for code, known in operator_names().items() if known == name)
    for index, entry in enumerate(model.operatorCodes):
        if builtin_code(entry) == code:
            return index
    return _add_code(model, code, 1, None)


def _add_code(model: Any, code: int, version: int, custom: Any) -> int:
    from ai_edge_litert import schema_py_generated as schema

    entry = schema.OperatorCodeT()
    entry.builtinCode, entry.version, entry.customCode = code, version, custom
    entry.deprecatedBuiltinCode = min(code, 127)
    model.operatorCodes.append(entry)
    return len(model.operatorCodes) - 1


@dataclass(frozen=True)
class _Types:
    """Properties of an operator that its version depends on; ``per_channel`` is of its weights or its one input."""

    input: int
    weights: int | None
    output: int
    per_channel: bool
    options: Any
    has_bias: bool
    grows: bool


def set_versions(model: Any) -> None:
    """Set the version of every builtin operator of a ``ModelT``, in place; never lower than before.

    Also turns off ``pot_scale_int16``, the schema's default, which runtimes support for powers of two only.
    """
    names = operator_names()
    codes: dict[tuple[int, int], int] = {}
    for operator in model.subgraphs[0].operators:
        entry = model.operatorCodes[operator.opcodeIndex]
        code = builtin_code(entry)
        types = _types(model, operator)
        if names[code] in ("ADD", "SUB") and types.input == _INT16 and operator.builtinOptions is not None:
            operator.builtinOptions.potScaleInt16 = False
        version = max(entry.version, _version(names[code], types))
        if version == entry.version:
            continue
        if (code, version) not in codes:
            codes[code, version] = _add_code(model, code, version, entry.customCode)
        operator.opcodeIndex = codes[code, version]
    used = sorted({operator.opcodeIndex for operator in model.subgraphs[0].operators})
    model.operatorCodes = [model.operatorCodes[index] for index in used]
    for operator in model.subgraphs[0].operators:
        operator.opcodeIndex = used.index(operator.opcodeIndex)


def _types(model: Any, operator: Any) -> _Types:
    tensors = model.subgraphs[0].tensors
    inputs = [tensors[index] for index in operator.inputs if index >= 0]
    output = tensors[operator.outputs[0]]
    weights = inputs[1] if len(inputs) > 1 else None
    first = inputs[0] if inputs else output
    scaled = weights if weights is not None else first
    scale = scaled.quantization.scale if scaled.quantization is not None else None
    scales = [_scale(tensor) for tensor in (*inputs[:2], output)]
    return _Types(
        input=first.type,
        weights=weights.type if weights is not None else None,
        output=output.type,
        per_channel=scale is not None and len(scale) > 1,
        options=operator.builtinOptions,
        # As in TensorFlow's rules, a bias that is listed but absent (-1) counts.
        has_bias=len(operator.inputs) > 2,
        grows=len(scales) == 3 and scales[2] > 0 and scales[0] * scales[1] / scales[2] >= 1,
    )


def _scale(tensor: Any) -> float:
    quantization = tensor.quantization
    has_scale = quantization is not None and quantization.scale is not None and len(quantization.scale)
    return float(quantization.scale[0]) if has_scale else 0.0


def _version(name: str, types: _Types) -> int:
    hybrid = types.input == _FLOAT32 and types.weights == _INT8
    if name == CONV_2D:
        return (5 if types.per_channel else 2) if hybrid else 3 if types.input == _INT8 else 1
    if name == DEPTHWISE_CONV_2D:
        dilated = types.options.dilationHFactor != 1 or types.options.dilationWFactor != 1
        plain = 2 if dilated else 1
        return (6 if types.per_channel else 4) if hybrid else 3 if types.input == _INT8 else plain
    if name == FULLY_CONNECTED:
        return _dense_version(types, hybrid)
    if name in _PLAIN:
        int8, int16 = _PLAIN[name]
        return _by_type(types.input, int8=int8, int16=int16)
    if name == "SPLIT" and types.weights is not None:
        # The first input of SPLIT is the axis.
        return _by_type(types.weights, int8=2, int16=4)
    if name == "TRANSPOSE_CONV":
        return 2 if types.weights == _INT8 else 1
    if name == "MUL":
        return 3 if types.input == _INT8 and types.grows else _by_type(types.input, int8=2, int16=4)
    if name == "QUANTIZE":
        return 2 if _INT16 in (types.input, types.output) else 1
    if name == "DEQUANTIZE":
        int8 = 5 if types.per_channel else 2
        return 3 if types.input in (_INT16, _FLOAT16) else int8 if types.input == _INT8 else 1
    return 1


def _dense_version(types: _Types, hybrid: bool) -> int:
    if hybrid and types.per_channel:
        return 12
    by_type = (9 if types.options.asymmetricQuantizeInputs else 3) if hybrid else 4 if types.input == _INT8 else 1
    # A missing bias or kept dimensions require a version independent of the types.
    return max(by_type, 5 if types.options.keepNumDims else 1, 1 if types.has_bias else 6)


def _by_type(dtype: int, *, int8: int, int16: int) -> int:
    return int16 if dtype == _INT16 else int8 if dtype == _INT8 else 1
