"""Forecast, operator by operator, what the Edge TPU compiler would map to the Edge TPU, and how its memory is filled.

Rules and where they come from: `convert.lint.edgetpu_rules`. One rule is about the whole graph: the compiler makes one
Edge TPU operator, so what depends on an operator that was left to the CPU stays on the CPU, whatever it is ("Edge TPU
Compiler", coral.ai/docs/edgetpu/compiler; its log then says "More than one subgraph is not supported"). Operators
before the first mapped one, such as QUANTIZE of a float input, run on the CPU and do no harm.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from convert.lint.edgetpu_rules import ANY_REMEDY, REMEDIES, RULES, Problem
from convert.lint.operators import EDGETPU_OPERATOR, OperatorFacts, TensorFacts

SRAM_BYTES = 8 << 20
# The page on the compiler says "roughly 8 MB of SRAM". What is left for weights depends on the model's activations and
# code; in logs of large models the weights kept on chip came to 6.15, 6.86 and 6.89 MiB (google-coral/edgetpu#60,
# #512, PINTO0309/openvino2tensorflow#28), and in one with large activations to 1.92 MiB (google-coral/edgetpu#427).
USUAL_WEIGHT_BYTES = 6 << 20
_EIGHT_BIT = ("int8", "uint8")
_INT8_REMEDY = "convert the int8 variant first"
_FIXED_REMEDY = "convert with a fixed batch of 1 and a fixed image size"
_ARGUMENTS = ("int32", "int64")  # axes, shapes and biases


class Place(str, enum.Enum):
    """Where an operator would run."""

    EDGETPU = "edgetpu"
    CPU = "cpu"


@dataclass(frozen=True)
class Forecast:
    """What is expected of one operator.

    Attributes:
        index: Position in the file, counted through all graphs.
        name: Name of the operator.
        version: Its version.
        place: Where it would run.
        why: The reason for the CPU, or None.
        remedy: What to do, or None.
        runtime: Lowest Edge TPU runtime that has it; 0 for the CPU.
        after: Index of the operator whose fault it is, where this one would map by itself; else None.
    """

    index: int
    name: str
    version: int
    place: Place
    why: str | None = None
    remedy: str | None = None
    runtime: int = 0
    after: int | None = None


@dataclass(frozen=True)
class Memory:
    """Weights against the memory on the chip.

    Attributes:
        weight_bytes: Constants of the mapped operators: weights and biases.
        streamed_bytes: About what would not fit and be sent with every picture; 0 where all should fit.
        text: One sentence.
    """

    weight_bytes: int
    streamed_bytes: int
    text: str


def is_compiled(operators: tuple[OperatorFacts, ...]) -> bool:
    """Whether the Edge TPU compiler has already made this file."""
    return any(operator.name == EDGETPU_OPERATOR for operator in operators)


def forecast(operators: tuple[OperatorFacts, ...]) -> tuple[Forecast, ...]:
    """The forecast for each operator, in the file's order."""
    if is_compiled(operators):
        return tuple(_compiled(operator) for operator in operators)
    # For each tensor: whether the Edge TPU has had a part in it, and the CPU operator after that, if any.
    used_edgetpu: set[tuple[int, int]] = set()
    blamed: dict[tuple[int, int], int] = {}
    result = []
    for operator in operators:
        sources = [(operator.graph, number) for number, _ in operator.inputs]
        targets = [(operator.graph, number) for number, _ in operator.outputs]
        problem = find_problem(operator)
        fault = next((blamed[source] for source in sources if source in blamed), None)
        if problem or fault is not None:
            behind_edgetpu = any(source in used_edgetpu for source in sources)
            if behind_edgetpu or fault is not None:
                blamed.update(dict.fromkeys(targets, operator.index if fault is None else fault))
        else:
            used_edgetpu.update(targets)
        result.append(_verdict(operator, problem, fault))
    return tuple(result)


def find_problem(operator: OperatorFacts) -> Problem | None:
    """Why this operator, looked at alone, cannot be mapped; None where it can."""
    if operator.graph > 0:
        return Problem("belongs to a graph inside a control operator", "remove IF and WHILE from the model")
    rule = RULES.get(operator.name)
    if rule is None:
        return Problem("the Edge TPU has no such operator", REMEDIES.get(operator.name, ANY_REMEDY))
    problems = (check(operator) for check in (_tensor_problem, *rule.limits))
    return next((problem for problem in problems if problem), None)


def memory(operators: tuple[OperatorFacts, ...], forecasts: tuple[Forecast, ...]) -> Memory:
    """Compare the weights of the mapped operators with the memory on the chip; a tensor used twice counts once."""
    mapped = {forecast.index for forecast in forecasts if forecast.place is Place.EDGETPU}
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
    streamed_bytes = weight_bytes - USUAL_WEIGHT_BYTES
    return Memory(
        weight_bytes,
        streamed_bytes,
        text + f"about {streamed_bytes / (1 << 20):.1f} MiB would be sent from the host with every picture, which is "
        "slower; take a smaller network",
    )


def _compiled(operator: OperatorFacts) -> Forecast:
    if operator.name == EDGETPU_OPERATOR:
        return Forecast(operator.index, operator.name, operator.version, Place.EDGETPU)
    why = "the compiler left it to the CPU"
    return Forecast(operator.index, operator.name, operator.version, Place.CPU, why, "lint the file from before it")


def _verdict(operator: OperatorFacts, problem: Problem | None, fault: int | None) -> Forecast:
    about = (operator.index, operator.name, operator.version)
    if problem:
        return Forecast(*about, Place.CPU, problem.why, problem.remedy)
    if fault is not None:
        return Forecast(*about, Place.CPU, "follows an operator on the CPU", f"mend operator {fault}", after=fault)
    return Forecast(*about, Place.EDGETPU, runtime=_runtime(operator))


def _runtime(operator: OperatorFacts) -> int:
    dilated = operator.option("dilationWFactor", 1) != 1 or operator.option("dilationHFactor", 1) != 1
    if operator.name == "DEPTHWISE_CONV_2D" and dilated:
        return 13
    return RULES[operator.name].runtime


def _tensor_problem(operator: OperatorFacts) -> Problem | None:
    tensors = [tensor for _, tensor in (*operator.inputs, *operator.outputs)]
    for tensor in tensors:
        if tensor.is_constant and tensor.dtype in _ARGUMENTS:
            continue
        if tensor.dtype not in _EIGHT_BIT:
            return _dtype_problem(operator, tensor)
        if not tensor.quantized:
            return Problem("an 8-bit tensor has no scale", _INT8_REMEDY)
    for tensor in tensors:
        if not tensor.is_constant and (problem := _shape_problem(tensor)):
            return problem
    return None


def _dtype_problem(operator: OperatorFacts, tensor: TensorFacts) -> Problem:
    if tensor.dtype in _ARGUMENTS:
        return Problem("an axis or shape is computed while the model runs", _FIXED_REMEDY)
    if operator.name == "QUANTIZE":
        remedy = "convert with integer input, as the int8 variant does; at the very start it costs little"
        return Problem(f"takes or gives {tensor.dtype}", remedy)
    return Problem(f"works on {tensor.dtype}, the Edge TPU on 8-bit integers", _INT8_REMEDY)


def _shape_problem(tensor: TensorFacts) -> Problem | None:
    if any(side < 0 for side in tensor.shape):
        return Problem("a shape is open until the model runs", _FIXED_REMEDY)
    # Up to three dimensions; more only where all but the three innermost are 1.
    if any(side != 1 for side in tensor.shape[:-3]):
        return Problem(f"more than 3 dimensions are larger than 1 {list(tensor.shape)}", "convert with a batch of 1")
    return None
