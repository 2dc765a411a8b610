"""Forecast which operators the Edge TPU compiler maps, and how the chip's memory is filled.

Source: "TensorFlow models on the Edge TPU", sections Model requirements and Supported operations
(coral.ai/docs/edgetpu/models-intro), for compiler 16 and Edge TPU runtime 14, both the last. The compiler's source is
not public, so this is a forecast: an operation that "might not be mapped" according to the page is assumed to map. The
runtime of each operation is from the page too; nothing was checked on a device.

One rule concerns the whole graph: the compiler makes one Edge TPU operator, so every operator that depends on an
operator on the CPU stays on the CPU ("Edge TPU Compiler", coral.ai/docs/edgetpu/compiler; its log then says "More than
one subgraph is not supported"). Operators before the first mapped one, such as QUANTIZE of a float input, run on the
CPU without such consequences.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from convert.tflite_model import OperatorFacts, TensorFacts
from edge_runtime.tflite.schema import EDGETPU_OPERATOR

SOFTMAX_ELEMENTS: Final = 16_000
# The page on the compiler says "roughly 8 MB of SRAM". What is left for weights depends on the model's activations and
# code; in logs of large models the weights kept on chip came to 6.15, 6.86 and 6.89 MiB (google-coral/edgetpu#60,
# #512, PINTO0309/openvino2tensorflow#28), and in one with large activations to 1.92 MiB (google-coral/edgetpu#427).
USUAL_WEIGHT_BYTES: Final = 6 << 20
_OLDEST_RUNTIME: Final = 10  # the page says "all", and mentions none older
_EIGHT_BIT: Final = ("int8", "uint8")
_ARGUMENTS: Final = ("int32", "int64")  # axes, shapes and biases
_INT8_REMEDY: Final = "convert the int8 variant first"
_FIXED_REMEDY: Final = "convert with a fixed batch of 1 and a fixed image size"


@dataclass(frozen=True)
class Problem:
    """Reason in one clause why an operator is not mapped, and the suggested change of model or conversion."""

    why: str
    remedy: str


Limit = Callable[[OperatorFacts], Problem | None]


@dataclass(frozen=True)
class Rule:
    """Lowest Edge TPU runtime with an operator, and functions that check further conditions."""

    runtime: int = _OLDEST_RUNTIME
    limits: tuple[Limit, ...] = ()


def _zero(option: str, problem: Problem) -> Limit:
    return lambda operator: None if operator.option(option) == 0 else problem


def _same_dilation(operator: OperatorFacts) -> Problem | None:
    width, height = operator.option("dilationWFactor", 1), operator.option("dilationHFactor", 1)
    if width == height:
        return None
    return Problem(f"dilation differs, {height} by {width}", "use the same dilation in both directions")


def _constant_weights(operator: OperatorFacts) -> Problem | None:
    problem = Problem("weights are computed while the model runs", "make weights and biases constants")
    return None if all(tensor.is_constant for _, tensor in operator.inputs[1:]) else problem


def _flat_output(operator: OperatorFacts) -> Problem | None:
    remedy = "flatten before the dense layer, or use a 1x1 convolution"
    is_flat = all(side == 1 for side in operator.outputs[0][1].shape[:-1])
    return None if is_flat else Problem("output has more than one dimension", remedy)


def _small_softmax(operator: OperatorFacts) -> Problem | None:
    shape = operator.outputs[0][1].shape
    if any(side != 1 for side in shape[:-1]):
        return Problem("works on more than one dimension", "take the softmax of one vector, or take it on the CPU")
    if shape and shape[-1] > SOFTMAX_ELEMENTS:
        why = f"has {shape[-1]} elements, at most {SOFTMAX_ELEMENTS} are mapped"
        return Problem(why, "leave softmax out and take the largest")
    return None


def _not_along_batch(position: int) -> Limit:
    """Require that the axes, a constant input, exclude the batch dimension."""

    def limit(operator: OperatorFacts) -> Problem | None:
        axes = operator.input(position)
        data = operator.inputs[1 - position][1] if len(operator.inputs) > 1 else None
        if axes is None or axes.integers is None or data is None:
            return Problem("axes are not constants", "give the axes as constants")
        rank = len(data.shape)
        if rank > 1 and any(axis % rank == 0 for axis in axes.integers):
            return Problem("works along the batch", "exclude the batch dimension")
        return None

    return limit


def _depth_multiple_of_four(operator: OperatorFacts) -> Problem | None:
    data, axes = operator.input(0), operator.input(1)
    if data is None or axes is None or axes.integers is None or not data.shape:
        return None  # reported by _not_along_batch
    rank = len(data.shape)
    if rank - 1 in {axis % rank for axis in axes.integers} and data.shape[-1] % 4:
        return Problem(f"averages {data.shape[-1]} channels", "use a multiple of 4 channels")
    return None


def _no_batch_padding(operator: OperatorFacts) -> Problem | None:
    data, paddings = operator.input(0), operator.input(1)
    if data is None or paddings is None or paddings.integers is None:
        return Problem("paddings are not constants", "give the paddings as constants")
    if len(data.shape) == 4 and any(paddings.integers[:2]):
        return Problem("pads the batch", "pad rows, columns and channels only")
    return None


def _no_batch_packing(operator: OperatorFacts) -> Problem | None:
    return None if operator.option("axis") else Problem("packs along the batch", "pack along another axis")


def _zero_constants(operator: OperatorFacts) -> Problem | None:
    constants = [tensor for _, tensor in operator.inputs if tensor.is_constant]
    if not constants or (len(operator.inputs) == 2 and all(tensor.all_zero for tensor in constants)):
        return None
    return Problem("joins a constant other than zeros", "use padding, or add the constant")


def _last_axis_alpha(operator: OperatorFacts) -> Problem | None:
    alpha = operator.input(1)
    if alpha is not None and all(side == 1 for side in alpha.shape[:-1]):
        return None
    return Problem("alpha has more than one dimension", "share alpha over rows and columns: PReLU(shared_axes=[1, 2])")


def _unit_strides(operator: OperatorFacts) -> Problem | None:
    strides = operator.input(3)
    if strides is None or strides.integers is None or any(stride != 1 for stride in strides.integers):
        return Problem("takes every nth element", "use strides of 1, or a pooling or convolution with stride")
    if operator.option("ellipsisMask") or operator.option("newAxisMask"):
        return Problem("has an ellipsis or a new axis", "slice every axis by name, and reshape afterwards")
    return None


_BATCH_FREE: Final = _not_along_batch(1)
_NOT_SHUFFLED: Final = _zero(
    "weightsFormat", Problem("weights are stored shuffled", "convert with the default weights format")
)
_NOT_FUSED: Final = _zero(
    "fusedActivationFunction", Problem("has a fused activation", "put the activation before this layer")
)
# Operators without further conditions.
_ANYWHERE: Final = (
    "ADD", "L2_NORMALIZATION", "LOGISTIC", "MAXIMUM", "MINIMUM", "MUL", "RELU", "RELU6", "RELU_N1_TO_1", "RESHAPE",
    "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "SLICE", "SPACE_TO_DEPTH", "SQUEEZE", "SUB", "TANH",
)  # fmt: skip
RULES: Final = MappingProxyType(
    {
        **dict.fromkeys(_ANYWHERE, Rule()),
        **dict.fromkeys(("EXPAND_DIMS", "QUANTIZE", "TRANSPOSE_CONV"), Rule(13)),
        **dict.fromkeys(("RSQRT", "SQUARED_DIFFERENCE", "TRANSPOSE", "UNIDIRECTIONAL_SEQUENCE_LSTM"), Rule(14)),
        **dict.fromkeys(("AVERAGE_POOL_2D", "MAX_POOL_2D"), Rule(limits=(_NOT_FUSED,))),
        **dict.fromkeys(("CONV_2D", "DEPTHWISE_CONV_2D"), Rule(limits=(_constant_weights, _same_dilation))),
        **dict.fromkeys(("REDUCE_MAX", "REDUCE_MIN"), Rule(14, (_BATCH_FREE,))),
        "CONCATENATION": Rule(limits=(_NOT_FUSED, _zero_constants)),
        "FULLY_CONNECTED": Rule(limits=(_constant_weights, _NOT_SHUFFLED, _flat_output)),
        "MEAN": Rule(limits=(_BATCH_FREE, _depth_multiple_of_four)),
        "PACK": Rule(13, (_no_batch_packing,)),
        "PAD": Rule(limits=(_no_batch_padding,)),
        "PRELU": Rule(13, (_last_axis_alpha,)),
        "SOFTMAX": Rule(limits=(_small_softmax,)),
        "SPLIT": Rule(limits=(_not_along_batch(0),)),
        "STRIDED_SLICE": Rule(limits=(_unit_strides,)),
        "SUM": Rule(13, (_BATCH_FREE,)),
    }
)

_RELU6: Final = "use ReLU6"
# Remedies of unsupported operators; the others get ANY_REMEDY.
REMEDIES: Final = MappingProxyType(
    {
        "HARD_SWISH": "take MobileNetV2 in place of MobileNetV3, or use ReLU6",
        "LEAKY_RELU": f"{_RELU6}, or PReLU(shared_axes=[1, 2])",
        "ELU": _RELU6,
        "GELU": _RELU6,
        "RELU_0_TO_1": _RELU6,
        "DEQUANTIZE": "convert with integer output, as the int8 variant does; at the very end it costs little",
        "CAST": "pass unscaled pixels, as the int8 variant does",
        "ARG_MAX": "leave it out and take the largest on the CPU",
        "DIV": "multiply by a constant instead",
        "PADV2": "pad with zeros",
        "MIRROR_PAD": "pad with zeros",
        "BATCH_MATMUL": "use dense layers or 1x1 convolutions",
        "SHAPE": "convert with a fixed batch of 1 and a fixed image size",
    }
)
ANY_REMEDY: Final = "replace the layer that it comes from; coral.ai/docs/edgetpu/models-intro lists what maps"


@dataclass(frozen=True)
class Finding:
    """Result of checking one operator.

    Attributes:
        index: Position in the file, counted through all graphs.
        operator: Name of the operator.
        version: Version of the operator.
        ok: True if the target has the operator, or the Edge TPU would run it.
        why: Reason why not, or None.
        remedy: Suggested change, or None.
    """

    index: int
    operator: str
    version: int
    ok: bool
    why: str | None = None
    remedy: str | None = None


@dataclass(frozen=True)
class Forecast:
    """Forecast for one operator.

    Attributes:
        finding: Processor that would run it, and the reason for the CPU.
        runtime: Lowest Edge TPU runtime with the operator; 0 for the CPU.
        after: Index of the CPU operator that keeps a mappable operator on the CPU, or None.
    """

    finding: Finding
    runtime: int = 0
    after: int | None = None


@dataclass(frozen=True)
class Memory:
    """Comparison of the weights with the memory on the chip.

    Attributes:
        weight_bytes: Size of the mapped operators' constants, in bytes.
        streamed_bytes: Estimated bytes that do not fit and are sent with every image; 0 if all should fit.
        text: Summary in one sentence.
    """

    weight_bytes: int
    streamed_bytes: int
    text: str


def is_compiled(operators: tuple[OperatorFacts, ...]) -> bool:
    """Tell whether the operators are of a file compiled for the Edge TPU."""
    return any(operator.name == EDGETPU_OPERATOR for operator in operators)


def forecast(operators: tuple[OperatorFacts, ...]) -> tuple[Forecast, ...]:
    """Forecast the processor of each operator, in the file's order."""
    if is_compiled(operators):
        left = Problem("the compiler left it to the CPU", "lint the uncompiled file")
        return tuple(
            Forecast(Finding(operator.index, operator.name, operator.version, True))
            if operator.name == EDGETPU_OPERATOR
            else _verdict(operator, left, None)
            for operator in operators
        )
    # Tensors that depend on the Edge TPU, and tensors that depend on a CPU operator behind it.
    used_edgetpu: set[tuple[int, int]] = set()
    blamed: dict[tuple[int, int], int] = {}
    result = []
    for operator in operators:
        sources = [(operator.graph, number) for number, _ in operator.inputs]
        targets = [(operator.graph, number) for number, _ in operator.outputs]
        problem = find_problem(operator)
        fault = next((blamed[source] for source in sources if source in blamed), None)
        if fault is not None:
            blamed.update(dict.fromkeys(targets, fault))
        elif not problem:
            used_edgetpu.update(targets)
        elif not used_edgetpu.isdisjoint(sources):
            blamed.update(dict.fromkeys(targets, operator.index))
        result.append(_verdict(operator, problem, fault))
    return tuple(result)


def find_problem(operator: OperatorFacts) -> Problem | None:
    """Find the reason why this operator alone cannot be mapped, or None."""
    if operator.graph > 0:
        return Problem("is in a subgraph of a control operator", "remove IF and WHILE from the model")
    rule = RULES.get(operator.name)
    if rule is None:
        return Problem("the Edge TPU has no such operator", REMEDIES.get(operator.name, ANY_REMEDY))
    problems = (check(operator) for check in (_tensor_problem, *rule.limits))
    return next((problem for problem in problems if problem), None)


def memory(operators: tuple[OperatorFacts, ...], forecasts: tuple[Forecast, ...]) -> Memory:
    """Compare the mapped operators' weights with the memory on the chip; shared tensors count once."""
    mapped = {forecast.finding.index for forecast in forecasts if forecast.finding.ok}
    sizes = {
        (operator.graph, number): tensor.data_bytes
        for operator in operators
        if operator.index in mapped
        for number, tensor in operator.inputs
    }
    weight_bytes = sum(sizes.values())
    text = f"weights {weight_bytes / (1 << 20):.2f} MiB of about 8 MiB on the chip: "
    if weight_bytes <= USUAL_WEIGHT_BYTES:
        return Memory(weight_bytes, 0, text + "all should stay there")
    streamed = weight_bytes - USUAL_WEIGHT_BYTES
    text += f"about {streamed / (1 << 20):.1f} MiB would be sent from the host with every image, which is slower; "
    return Memory(weight_bytes, streamed, text + "take a smaller network")


def _verdict(operator: OperatorFacts, problem: Problem | None, fault: int | None) -> Forecast:
    about = (operator.index, operator.name, operator.version)
    if problem:
        return Forecast(Finding(*about, False, problem.why, problem.remedy))
    if fault is not None:
        return Forecast(Finding(*about, False, "follows an operator on the CPU", f"fix operator {fault}"), after=fault)
    dilated = operator.option("dilationWFactor", 1) != 1 or operator.option("dilationHFactor", 1) != 1
    needs_13 = operator.name == "DEPTHWISE_CONV_2D" and dilated
    return Forecast(Finding(*about, True), 13 if needs_13 else RULES[operator.name].runtime)


def _tensor_problem(operator: OperatorFacts) -> Problem | None:
    tensors = [tensor for _, tensor in (*operator.inputs, *operator.outputs)]
    for tensor in tensors:
        if tensor.is_constant and tensor.dtype in _ARGUMENTS:
            continue
        if tensor.dtype not in _EIGHT_BIT:
            return _dtype_problem(operator, tensor)
        if not tensor.quantized:
            return Problem("an 8-bit tensor has no scale", _INT8_REMEDY)
    shapes = [tensor.shape for tensor in tensors if not tensor.is_constant]
    for shape in shapes:
        if any(side < 0 for side in shape):
            return Problem("a shape is open until the model runs", _FIXED_REMEDY)
        # Up to three dimensions; more only if all but the three innermost are 1.
        if any(side != 1 for side in shape[:-3]):
            return Problem(f"more than 3 dimensions are larger than 1 {list(shape)}", "convert with a batch of 1")
    return None


def _dtype_problem(operator: OperatorFacts, tensor: TensorFacts) -> Problem:
    if tensor.dtype in _ARGUMENTS:
        return Problem("an axis or shape is computed while the model runs", _FIXED_REMEDY)
    if operator.name == "QUANTIZE":
        remedy = "convert with integer input, as the int8 variant does; at the very start it costs little"
        return Problem(f"takes or gives {tensor.dtype}", remedy)
    return Problem(f"works on {tensor.dtype}, the Edge TPU on 8-bit integers", _INT8_REMEDY)
