"""Small TFLite models built without TensorFlow."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from convert.tflite_model import operator_name, pack_model, unpack_model

CAST_OPTIONS = {"kind": "CastOptions", "inDataType": 3, "outDataType": 0}
RELU, RELU6 = 1, 3
"""Fused activations."""


@dataclass(frozen=True)
class Tensor:
    """A tensor to build.

    Attributes:
        name: Its name, by which operators name it.
        shape: Its sides.
        dtype: Lower-case name of the schema's type.
        scale: Its quantization scale, with zero point 0; None leaves it unquantized.
        data: Its constant bytes, or None.
        signature: Its shape signature, or None.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "int8"
    scale: float | None = 0.5
    data: bytes | None = None
    signature: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Operator:
    """An operator to build.

    Attributes:
        name: Name in the schema; any other name becomes a custom operator.
        inputs: Names of its tensors; "" for an optional one that is absent.
        outputs: Names of its tensors.
        version: Its version.
        options: Fields of its options by name; ``kind`` is the schema's options class, such as ``Pool2DOptions``.
    """

    name: str
    inputs: Sequence[str] = ()
    outputs: Sequence[str] = ()
    version: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)


def build_model(tensors=(), operators=(), *, metadata=None):
    """The bytes of a ``.tflite``: the first tensor is its input, the last its output.

    Args:
        tensors: All tensors.
        operators: All operators, in the order in which they run.
        metadata: Buffers by the name of their metadata entry.
    """
    from ai_edge_litert import schema_py_generated as schema

    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.description = 3, "for a test"
    model.buffers, model.operatorCodes, model.metadata = [schema.BufferT()], [], []
    model.subgraphs, model.signatureDefs = [graph], []  # as the converter writes it
    numbers = {tensor.name: number for number, tensor in enumerate(tensors)} | {"": -1}
    graph.tensors = [_tensor(tensor, model) for tensor in tensors]
    graph.inputs, graph.outputs = ([0], [len(tensors) - 1]) if tensors else ([], [])
    graph.operators = [_operator(operator, numbers, model) for operator in operators]
    for name, data in (metadata or {}).items():
        entry = schema.MetadataT()
        entry.name, entry.buffer = name, _add_buffer(data, model)
        model.metadata.append(entry)
    return pack_model(model)


def _tensor(tensor, model):
    from ai_edge_litert import schema_py_generated as schema

    built = schema.TensorT()
    built.name, built.shape = tensor.name, list(tensor.shape)
    built.type = getattr(schema.TensorType, tensor.dtype.upper())
    built.buffer = 0 if tensor.data is None else _add_buffer(tensor.data, model)
    built.shapeSignature = None if tensor.signature is None else list(tensor.signature)
    if tensor.scale is not None:
        built.quantization = schema.QuantizationParametersT()
        built.quantization.scale, built.quantization.zeroPoint = [tensor.scale], [0]
    return built


def _operator(operator, numbers, model):
    from ai_edge_litert import schema_py_generated as schema

    code, built = schema.OperatorCodeT(), schema.OperatorT()
    number = getattr(schema.BuiltinOperator, operator.name, None)
    code.builtinCode = schema.BuiltinOperator.CUSTOM if number is None else number
    code.deprecatedBuiltinCode = min(code.builtinCode, schema.BuiltinOperator.PLACEHOLDER_FOR_GREATER_OP_CODES)
    code.customCode, code.version = (operator.name if number is None else None), operator.version
    model.operatorCodes.append(code)
    built.opcodeIndex = len(model.operatorCodes) - 1
    built.inputs = [numbers[name] for name in operator.inputs]
    built.outputs = [numbers[name] for name in operator.outputs]
    if operator.options:
        kind = operator.options["kind"]
        built.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
        built.builtinOptions = getattr(schema, f"{kind}T")()
        for name, value in operator.options.items():
            if name != "kind":
                setattr(built.builtinOptions, name, value)
    return built


def _add_buffer(data, model):
    from ai_edge_litert import schema_py_generated as schema

    buffer = schema.BufferT()
    buffer.data = data
    model.buffers.append(buffer)
    return len(model.buffers) - 1


def build_chain(input_shape, steps, input_name="image"):
    """A float32 model of operators one after the other that takes uint8 images.

    Args:
        input_shape: Of the images, [1, H, W, C].
        steps: For each operator its name, its output's shape, its options, and its constants as arrays.
        input_name: Name of the input tensor. The output of step ``i`` is called ``i/name``, its constants
            ``i/constant0`` and so on.
    """
    tensors, operators, current = [Tensor(input_name, tuple(input_shape), "uint8", None)], [], input_name
    for number, (name, shape, options, *constants) in enumerate(steps):
        inputs = [current]
        for which, values in enumerate(constants):
            inputs.append(f"{number}/constant{which}")
            tensors.append(Tensor(inputs[-1], values.shape, values.dtype.name, None, values.tobytes()))
        current = f"{number}/{name.lower()}"
        tensors.append(Tensor(current, shape, "float32", None))
        operators.append(Operator(name, inputs, [current], 1, options))
    return build_model(tensors, operators)


def convolution_options(stride=1, activation=0, *, depthwise=False):
    """Make the options of a convolution with SAME padding."""
    kind = {"kind": "DepthwiseConv2DOptions", "depthMultiplier": 1} if depthwise else {"kind": "Conv2DOptions"}
    sides = {"strideH": stride, "strideW": stride, "dilationHFactor": 1, "dilationWFactor": 1}
    return {**kind, **sides, "fusedActivationFunction": activation}


def floats(shapes):
    """Make float32 activations by name and shape."""
    return [Tensor(name, shape, "float32", None) for name, shape in shapes.items()]


def constants(values):
    """Make constant tensors by name, not quantized."""
    return [Tensor(name, v.shape, v.dtype.name, None, v.tobytes()) for name, v in values.items()]


def operators_of(data):
    """Name and version of each operator of a ``.tflite``, in execution order."""
    model = unpack_model(data)
    return [
        (operator_name(model, operator), model.operatorCodes[operator.opcodeIndex].version)
        for operator in model.subgraphs[0].operators
    ]


def weight_tensors(data):
    """Name, input tensor and weight tensor (``TensorT``) of each operator with weights, in execution order."""
    model = unpack_model(data)
    graph = model.subgraphs[0]
    return [
        (name, graph.tensors[operator.inputs[0]], graph.tensors[operator.inputs[1]])
        for operator in graph.operators
        if (name := operator_name(model, operator)) in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
    ]
