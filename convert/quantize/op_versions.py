"""Write the versions that operators really need into a quantized model.

ai-edge-quantizer changes the types of tensors and leaves each operator's version at that of the float model, so a
runtime too old for the types would not refuse the file but compute nonsense. The rules are those of TensorFlow's
``lite/tools/versioning/op_version.cc``, for the operators and types that the quantizer writes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from convert.quantize.graph import CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED, operator_names

_FLOAT32, _FLOAT16, _UINT8, _INT8, _INT16 = 0, 1, 3, 9, 7
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
class _Types:
    """Tensor types of one operator, and whether its weights (or its one input) have a scale per channel."""

    input: int
    weights: int | None
    output: int
    per_channel: bool
    options: Any
    has_bias: bool
    grows: bool


def set_versions(model: Any) -> None:
    """Give every builtin operator of a ``ModelT`` its version, in place; never lower than it was.

    Also turns off ``pot_scale_int16``, which the schema turns on where a writer says nothing and which no runtime
    honours for other than powers of two.
    """
    from ai_edge_litert import schema_py_generated as schema

    names = operator_names()
    codes: dict[tuple[int, int], int] = {}
    for operator in model.subgraphs[0].operators:
        entry = model.operatorCodes[operator.opcodeIndex]
        code = max(entry.builtinCode, entry.deprecatedBuiltinCode)
        types = _types(model, operator)
        if names[code] in ("ADD", "SUB") and types.input == _INT16 and operator.builtinOptions is not None:
            operator.builtinOptions.potScaleInt16 = False
        version = max(entry.version, _version(names[code], types))
        if version == entry.version:
            continue
        if (code, version) not in codes:
            twin = schema.OperatorCodeT()
            twin.builtinCode, twin.version, twin.customCode = code, version, entry.customCode
            twin.deprecatedBuiltinCode = min(code, 127)
            model.operatorCodes.append(twin)
            codes[code, version] = len(model.operatorCodes) - 1
        operator.opcodeIndex = codes[code, version]
    _drop_unused_codes(model)


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
        # As in the rules, a bias that is named but absent (-1) counts: every version takes that.
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
        # Its first input is the axis.
        return _by_type(types.weights, int8=2, int16=4)
    if name == "TRANSPOSE_CONV":
        return 2 if types.weights == _INT8 else 1
    if name == "MUL":
        return 3 if types.input == _INT8 and types.grows else _by_type(types.input, int8=2, int16=4)
    if name == "QUANTIZE":
        return 2 if _INT16 in (types.input, types.output) else 1
    if name == "DEQUANTIZE":
        return _dequantize_version(types)
    return 1


def _dense_version(types: _Types, hybrid: bool) -> int:
    if hybrid and types.per_channel:
        return 12
    by_type = (9 if types.options.asymmetricQuantizeInputs else 3) if hybrid else 4 if types.input == _INT8 else 1
    # Where bias or flattening asks for more than the types do, it does so for every type.
    return max(by_type, 5 if types.options.keepNumDims else 1, 1 if types.has_bias else 6)


def _dequantize_version(types: _Types) -> int:
    if types.input in (_INT16, _FLOAT16):
        return 3
    if types.input == _INT8:
        return 5 if types.per_channel else 2
    return 1


def _by_type(dtype: int, *, int8: int, int16: int) -> int:
    return int16 if dtype == _INT16 else int8 if dtype == _INT8 else 1


def _drop_unused_codes(model: Any) -> None:
    used = sorted({operator.opcodeIndex for operator in model.subgraphs[0].operators})
    model.operatorCodes = [model.operatorCodes[index] for index in used]
    for operator in model.subgraphs[0].operators:
        operator.opcodeIndex = used.index(operator.opcodeIndex)
