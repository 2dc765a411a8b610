"""Operator versions of quantized models against the rules of TensorFlow's ``op_version.cc``."""

import pytest
from ai_edge_litert import schema_py_generated as schema

from convert.quantize.tflite_finish import set_versions
from convert.tflite_model import operator_names, pack_model, unpack_model
from support.tflite_models import Operator, Tensor, build_model, operators_of

NAMES = operator_names()
DENSE = {"kind": "FullyConnectedOptions"}
CONVOLUTION = {"kind": "Conv2DOptions"}
DEPTHWISE = {"kind": "DepthwiseConv2DOptions", "dilationHFactor": 1, "dilationWFactor": 1}
DILATED = {**DEPTHWISE, "dilationHFactor": 2}
ADD = {"kind": "AddOptions"}
SUB = {"kind": "SubOptions"}
PER_CHANNEL = "per channel"


def versioned(*parts, version=1):
    """The operators of a model after `set_versions`: (name, version) each, and the ``ModelT``.

    A part is an operator's name, its options, its input types and its output type; an input type may be followed by
    "per channel", and "absent" is an optional input that is not there.
    """
    tensors, operators, per_channel = [], [], []
    for number, (name, options, inputs, output) in enumerate(parts):
        names = []
        for place, dtype in enumerate(inputs):
            names.append("" if dtype == "absent" else f"{number}/{place}")
            if dtype != "absent":
                tensors.append(Tensor(names[-1], (2, 2), dtype.split()[0], None if dtype == "float32" else 0.5))
            if PER_CHANNEL in dtype:
                per_channel.append(names[-1])
        tensors.append(Tensor(f"{number}/output", (2, 2), output, None if output == "float32" else 0.5))
        operators.append(Operator(name, names, [f"{number}/output"], version, options))
    model = unpack_model(build_model(tensors, operators))
    for tensor in model.subgraphs[0].tensors:
        if tensor.name.decode() in per_channel:
            tensor.quantization.scale, tensor.quantization.zeroPoint = [0.5, 0.25], [0, 0]
    set_versions(model)
    model = unpack_model(pack_model(model))
    return operators_of(pack_model(model)), model


HYBRID, PER_OUTPUT = ("float32", "int8", "float32"), ("float32", f"int8 {PER_CHANNEL}", "float32")
INTEGER = ("int8", f"int8 {PER_CHANNEL}", "int32")


@pytest.mark.parametrize(
    ("name", "options", "inputs", "output", "expected"),
    [
        ("CONV_2D", CONVOLUTION, ("float32", "float32", "float32"), "float32", 1),
        ("CONV_2D", CONVOLUTION, INTEGER, "int8", 3),
        ("CONV_2D", CONVOLUTION, HYBRID, "float32", 2),
        ("CONV_2D", CONVOLUTION, PER_OUTPUT, "float32", 5),
        ("CONV_2D", CONVOLUTION, ("int16", "int8", "int64"), "int16", 1),
        ("DEPTHWISE_CONV_2D", DEPTHWISE, ("float32", "float32", "float32"), "float32", 1),
        ("DEPTHWISE_CONV_2D", DILATED, ("float32", "float32", "float32"), "float32", 2),
        ("DEPTHWISE_CONV_2D", DILATED, INTEGER, "int8", 3),
        ("DEPTHWISE_CONV_2D", DEPTHWISE, HYBRID, "float32", 4),
        ("DEPTHWISE_CONV_2D", DEPTHWISE, PER_OUTPUT, "float32", 6),
        ("FULLY_CONNECTED", DENSE, ("float32", "float32", "float32"), "float32", 1),
        ("FULLY_CONNECTED", DENSE, ("float32", "float32"), "float32", 6),
        ("FULLY_CONNECTED", DENSE, ("float32", "float32", "absent"), "float32", 1),
        ("FULLY_CONNECTED", {**DENSE, "keepNumDims": True}, ("float32", "float32", "float32"), "float32", 5),
        ("FULLY_CONNECTED", DENSE, INTEGER, "int8", 4),
        ("FULLY_CONNECTED", DENSE, ("int8", "int8"), "int8", 6),
        ("FULLY_CONNECTED", {**DENSE, "keepNumDims": True}, INTEGER, "int8", 5),
        ("FULLY_CONNECTED", DENSE, HYBRID, "float32", 3),
        ("FULLY_CONNECTED", {**DENSE, "asymmetricQuantizeInputs": True}, HYBRID, "float32", 9),
        ("FULLY_CONNECTED", DENSE, HYBRID[:2], "float32", 6),
        ("FULLY_CONNECTED", DENSE, PER_OUTPUT, "float32", 12),
        ("FULLY_CONNECTED", DENSE, PER_OUTPUT[:2], "float32", 12),
        ("ADD", ADD, ("float32", "float32"), "float32", 1),
        ("ADD", ADD, ("int8", "int8"), "int8", 2),
        ("ADD", ADD, ("int16", "int16"), "int16", 3),
        ("SUB", SUB, ("int8", "int8"), "int8", 2),
        ("SUB", SUB, ("int16", "int16"), "int16", 5),
        ("MUL", {"kind": "MulOptions"}, ("float32", "float32"), "float32", 1),
        ("MUL", {"kind": "MulOptions"}, ("int8", "int8"), "int8", 2),
        ("MUL", {"kind": "MulOptions"}, ("int16", "int16"), "int16", 4),
        ("SOFTMAX", {}, ("int8",), "int8", 2),
        ("SOFTMAX", {}, ("int16",), "int16", 3),
        ("MEAN", {}, ("int8", "int32"), "int8", 2),
        ("MAX_POOL_2D", {}, ("int16",), "int16", 3),
        ("TRANSPOSE", {}, ("int16", "int32"), "int16", 5),
        ("MAXIMUM", {}, ("int16", "int16"), "int16", 4),
        ("RESIZE_BILINEAR", {}, ("int8", "int32"), "int8", 2),
        ("RESIZE_NEAREST_NEIGHBOR", {}, ("int16", "int32"), "int16", 4),
        ("STRIDED_SLICE", {}, ("int8", "int32"), "int8", 2),
        ("SPLIT", {}, ("int32", "int8"), "int8", 2),
        ("SPLIT", {}, ("int32", "float32"), "float32", 1),
        ("TRANSPOSE_CONV", {}, ("int32", "int8", "int8"), "int8", 2),
        ("GELU", {}, ("int8",), "int8", 2),
        ("QUANTIZE", {}, ("uint8",), "int8", 1),
        ("QUANTIZE", {}, ("float32",), "int16", 2),
        ("DEQUANTIZE", {}, ("uint8",), "float32", 1),
        ("DEQUANTIZE", {}, ("int8",), "float32", 2),
        ("DEQUANTIZE", {}, ("float16",), "float32", 3),
        ("DEQUANTIZE", {}, ("int16",), "float32", 3),
        ("DEQUANTIZE", {}, (f"int8 {PER_CHANNEL}",), "float32", 5),
        ("RESHAPE", {}, ("int8", "int32"), "int8", 1),
    ],
    ids=str,
)
def test_the_version_follows_from_the_types(name, options, inputs, output, expected):
    (found,), _ = versioned((name, options, inputs, output))
    assert found == (name, expected)


@pytest.mark.parametrize(("output_scale", "expected"), [(0.5, 2), (0.25, 3), (0.1, 3)])
def test_a_product_that_grows_needs_a_newer_multiplication(output_scale, expected):
    tensors = [Tensor("a", (2,), "int8", 0.5), Tensor("b", (2,), "int8", 0.5), Tensor("c", (2,), "int8", output_scale)]
    model = unpack_model(build_model(tensors, [Operator("MUL", ["a", "b"], ["c"], 1, {"kind": "MulOptions"})]))
    set_versions(model)
    assert [code.version for code in model.operatorCodes] == [expected]


@pytest.mark.parametrize(("name", "options"), [("ADD", ADD), ("SUB", SUB)])
def test_scales_of_int16_sums_are_said_not_to_be_powers_of_two(name, options):
    _, model = versioned((name, options, ("int16", "int16"), "int16"))
    assert model.subgraphs[0].operators[0].builtinOptions.potScaleInt16 is False


def test_a_version_is_never_lowered():
    found, _ = versioned(("SOFTMAX", {}, ("int8",), "int8"), ("CONV_2D", CONVOLUTION, INTEGER, "int8"), version=7)
    assert found == [("SOFTMAX", 7), ("CONV_2D", 7)]


def test_operators_of_one_code_get_a_code_each_where_their_types_differ():
    tensors = [Tensor(name, (2,), "int8" if name < "c" else "float32", None) for name in "abcde"]
    operators = [Operator("RELU", [a], [b]) for a, b in ("ab", "cd", "ab", "de")]
    model = unpack_model(build_model(tensors, operators))
    for operator in model.subgraphs[0].operators:
        operator.opcodeIndex = 2
    set_versions(model)
    versions = [model.operatorCodes[operator.opcodeIndex].version for operator in model.subgraphs[0].operators]
    assert versions == [2, 1, 2, 1]
    assert sorted(code.version for code in model.operatorCodes) == [1, 2]


def test_codes_that_no_operator_uses_are_dropped():
    tensors = [Tensor("a", (2,), "float32", None), Tensor("b", (2,), "float32", None)]
    model = unpack_model(build_model(tensors, [Operator(name, ["a"], ["b"]) for name in ("TANH", "RELU", "ABS")]))
    del model.subgraphs[0].operators[0]
    set_versions(model)
    kept = [(NAMES[code.builtinCode], number) for number, code in enumerate(model.operatorCodes)]
    assert kept == [("RELU", 0), ("ABS", 1)]
    assert [operator.opcodeIndex for operator in model.subgraphs[0].operators] == [0, 1]


def test_a_code_beyond_127_keeps_its_number():
    _, model = versioned(("GELU", {}, ("int8",), "int8"))
    (code,) = model.operatorCodes
    assert (code.builtinCode, code.deprecatedBuiltinCode) == (schema.BuiltinOperator.GELU, 127)


def test_a_custom_operator_stays_what_it_is():
    found, model = versioned(("MyOperator", {}, ("int8",), "int8"))
    assert found == [("CUSTOM", 1)]
    assert model.operatorCodes[0].customCode == b"MyOperator"
