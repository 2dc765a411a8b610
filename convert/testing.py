"""Test helpers: small TFLite models built without TensorFlow, and a sample conversion record."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convert.gate import Reference, compare
from convert.record import CalibrationPoint, CalibrationRecord, ConversionRecord, LeftOut, Step, VariantRecord
from convert.tflite_model import pack_model
from edge_runtime.contract import Artifact, Head, OutputSpec, TensorSpec, Variant


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


def build_model(
    tensors: Sequence[Tensor] = (), operators: Sequence[Operator] = (), *, metadata: Mapping[str, bytes] | None = None
) -> bytes:
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
    model.subgraphs = [graph]
    numbers = {tensor.name: number for number, tensor in enumerate(tensors)} | {"": -1}
    graph.tensors = [_tensor(tensor, model) for tensor in tensors]
    graph.inputs, graph.outputs = ([0], [len(tensors) - 1]) if tensors else ([], [])
    graph.operators = [_operator(operator, numbers, model) for operator in operators]
    for name, data in (metadata or {}).items():
        entry = schema.MetadataT()
        entry.name, entry.buffer = name, _add_buffer(data, model)
        model.metadata.append(entry)
    return pack_model(model)


def _tensor(tensor: Tensor, model: Any) -> Any:
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


def _operator(operator: Operator, numbers: Mapping[str, int], model: Any) -> Any:
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


def _add_buffer(data: bytes, model: Any) -> int:
    from ai_edge_litert import schema_py_generated as schema

    buffer = schema.BufferT()
    buffer.data = data
    model.buffers.append(buffer)
    return len(model.buffers) - 1


def build_chain(input_shape: Sequence[int], steps: Sequence[Any], input_name: str = "image") -> bytes:
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


# Of a MobileNetV2 0.35 at 160 pixels, about: error of the logits, bytes, milliseconds.
_FIGURES = {
    Variant.FLOAT32: (1e-6, 1_650_000, 0.71),
    Variant.FLOAT16: (1e-3, 850_000, 0.73),
    Variant.DYNAMIC: (0.1, 590_000, 1.21),
    Variant.INT8: (0.35, 640_000, 0.98),
    Variant.INT8_PER_TENSOR: (2.6, 600_000, 0.97),
    Variant.INT16X8: (0.05, 660_000, 3.9),
    Variant.ONNX_FLOAT32: (1e-6, 1_640_000, 0.86),
    Variant.ONNX_INT8: (0.45, 610_000, 0.69),
}
_INTEGER = (Variant.INT8, Variant.INT8_PER_TENSOR, Variant.INT16X8, Variant.ONNX_INT8)


def sample_record(
    labels: Sequence[str] = ("cat", "dog"),
    images: int = 400,
    variants: Sequence[Variant] = tuple(_FIGURES),
    left_out: Sequence[LeftOut] = (),
    max_drop_points: float = 1.0,
) -> ConversionRecord:
    """A record of these variants; per-tensor int8 loses several points, the others little.

    Args:
        labels: In output order.
        images: Images of the check.
        variants: Some of those that have made-up figures.
        left_out: What could not be exported.
        max_drop_points: The gate.
    """
    rng = np.random.default_rng(7)
    truth = rng.integers(0, len(labels), images)
    logits = rng.normal(0, 1, (images, len(labels)))
    logits[np.arange(images), truth] += 3.2
    reference = Reference("validation", truth, _softmax(logits), _softmax(logits[:8]))
    calibration = CalibrationRecord(
        images=500,
        shared=0,
        method="min-max",
        seed=0,
        sha256=hashlib.sha256(b"made up").hexdigest(),
        per_class={label: 500 // len(labels) for label in labels},
        points=tuple(
            CalibrationPoint(count, accuracy, accuracy + 0.01)
            for count, accuracy in ((1, 0.71), (10, 0.935), (50, 0.952), (100, 0.957), (200, 0.955), (500, 0.957))
        ),
    )
    return ConversionRecord(
        model_name="pets",
        labels=tuple(labels),
        origin="runs/pets, recipe mobilenetv2, 160 x 160 pixels",
        split=reference.split,
        check_images=images,
        max_drop_points=max_drop_points,
        calibration=calibration,
        variants=tuple(_variant(entry, reference, logits, labels, max_drop_points) for entry in variants),
        left_out=tuple(left_out),
        machine="Intel Xeon at 2.60 GHz, 2 cores, x86_64",
        seconds=63.4,
        settings={"repair": "auto", "calibration method": "min-max", "max drop": f"{max_drop_points:g} points"},
        versions={"edgekit": "0.1.0", "tensorflow": "2.21.0", "ai-edge-litert": "2.3.0", "onnxruntime": "1.31.1"},
    )


def _variant(
    variant: Variant,
    reference: Reference,
    logits: NDArray[np.float64],
    labels: Sequence[str],
    max_drop_points: float,
) -> VariantRecord:
    error, size, latency_ms = _FIGURES[variant]
    rng = np.random.default_rng(len(variant.value))
    found = _softmax(logits + rng.normal(0, error, logits.shape))
    is_onnx = variant.suffix == ".onnx"
    comparison = compare(
        reference,
        found,
        found[:8],
        OutputSpec(Head.SOFTMAX, 0.0),
        labels,
        variant=variant,
        engine="onnxruntime 1.31.1" if is_onnx else "litert 2.3.0",
        max_drop_points=max_drop_points,
    )
    check = comparison.check
    artifact = Artifact(
        variant=variant,
        file=variant.file_name("pets"),
        sha256=hashlib.sha256(variant.value.encode()).hexdigest(),
        bytes=size,
        input=TensorSpec("image", "uint8", (1, 160, 160, 3), 0.0, 0),
        output=TensorSpec("probabilities", "float32", (1, len(labels)), 0.0, 0),
        minimum_runtime="onnx opset 18" if is_onnx else "tflite 2.4.0",
        check=check,
    )
    steps = (
        Step("nearest rounding", check.accuracy - 0.031, check.agreement - 0.04, size - 9000, latency_ms, passed=False),
        Step("calibrated rounding", check.accuracy - 0.004, check.agreement, size - 9000, latency_ms, check.passed),
        Step(
            "2 layers kept in float32: block_1_depthwise, Conv1",
            check.accuracy,
            check.agreement,
            size,
            latency_ms + 0.06,
            check.passed,
        ),
    )
    return VariantRecord(
        artifact=artifact,
        comparison=comparison,
        latency_ms=latency_ms,
        steps=steps if variant in _INTEGER else (),
        notes=("opens in tflite-runtime 2.14, as was asked for",) if variant is Variant.INT8_PER_TENSOR else (),
        lowest_runtimes=("onnxruntime 1.14",) if is_onnx else ("tflite-runtime 2.4.0", "litert 1.0.1"),
    )


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float32]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
