"""Repair an int8 model that fails the accuracy gate: keep the fewest harmful operators in float32."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convert.gate import points
from convert.quantize.calibration import latency_ms, probabilities
from convert.quantize.graph import FloatGraph
from convert.record import Step
from edge_runtime.classifier import top1, widen
from edge_runtime.contract import OutputSpec

Build = Callable[[Collection[str]], bytes]
"""Function that builds the model with the operators of these outputs in float32."""

_RANK_IMAGES = 32
_ONE_BY_ONE = 4


@dataclass(frozen=True)
class AccuracyGate:
    """Check images, Keras' probabilities and the allowed loss of accuracy.

    Attributes:
        images_nhwc_rgb_u8: Check images, uint8 [n, H, W, 3].
        truth: int [n], index of each image's label.
        keras: float32 [n, labels], Keras' probabilities.
        output: Rule that turns probabilities into an answer.
        max_drop_points: Allowed loss of accuracy, percentage points.
    """

    images_nhwc_rgb_u8: NDArray[np.uint8]
    truth: NDArray[np.int64]
    keras: NDArray[np.float32]
    output: OutputSpec
    max_drop_points: float

    def step(self, data: bytes, description: str) -> Step:
        """Measure one model that takes uint8 images."""
        answers = top1(widen(probabilities(data, self.images_nhwc_rgb_u8), self.output), self.output)
        keras_answers = top1(self.keras, self.output)
        accuracy = float(np.mean(answers == self.truth))
        drop = points(float(np.mean(keras_answers == self.truth)) - accuracy)
        return Step(
            description=description,
            accuracy=accuracy,
            agreement=float(np.mean(answers == keras_answers)),
            bytes=len(data),
            latency_ms=latency_ms(data),
            passed=drop <= self.max_drop_points,
        )


@dataclass(frozen=True)
class Repaired:
    """Result of a repair.

    Attributes:
        data: Passing model with the fewest float32 operators, or None.
        kept: Output names of the operators that stay in float32.
        steps: Attempts in order.
    """

    data: bytes | None
    kept: tuple[str, ...]
    steps: tuple[Step, ...]


def repair(
    graph: FloatGraph,
    build: Build,
    gate: AccuracyGate,
    images: NDArray[np.uint8],
    seconds: float,
    kept: Sequence[str] = (),
) -> Repaired:
    """Search for the fewest operators that must stay in float32.

    Args:
        graph: Float32 model with the operators' names.
        build: Function that builds a quantized model.
        gate: Accuracy gate that the model must pass.
        images: Calibration images for ranking operators, uint8 [n, H, W, 3].
        seconds: Time limit of the search, in seconds; it then ends with the best result so far.
        kept: Output names of operators that are in float32 anyway.
    """
    deadline = time.monotonic() + seconds
    ranked = [name for name in rank(graph, build, images[:_RANK_IMAGES], deadline) if name not in kept]
    steps: list[Step] = []
    for count in _counts(len(ranked)):
        chosen = [*kept, *ranked[:count]]
        data = build(chosen)
        steps.append(gate.step(data, _description(ranked[:count])))
        if steps[-1].passed:
            return _prune(build, gate, data, ranked[:count], tuple(kept), steps, deadline)
        if time.monotonic() > deadline:
            break
    return Repaired(None, (), tuple(steps))


def rank(graph: FloatGraph, build: Build, images: NDArray[np.uint8], deadline: float) -> list[str]:
    """Rank operators by the mean absolute change of the answers when each alone is quantized, worst first.

    Operators not reached before the deadline come last, in execution order.
    """
    head = graph.pixels().operators
    names = [graph.name(operator.outputs[0]) for operator in graph.operators[head:]]
    exact = probabilities(graph.data, images)
    harm: dict[str, float] = {}
    for name in names:
        if time.monotonic() > deadline:
            break
        others = [other for other in names if other != name]
        harm[name] = float(np.mean(np.abs(exact - probabilities(build(others), images))))
    return sorted(harm, key=lambda name: -harm[name]) + [name for name in names if name not in harm]


def _counts(limit: int) -> list[int]:
    """Numbers of operators to try: 1, 2, 3, 4, then a third more each time, up to half of the operators."""
    counts, count = [], 1
    while count <= max(1, limit // 2):
        counts.append(count)
        count = count + 1 if count < _ONE_BY_ONE else -(-count * 4 // 3)
    return counts


def _prune(
    build: Build,
    gate: AccuracyGate,
    data: bytes,
    chosen: list[str],
    kept: tuple[str, ...],
    steps: list[Step],
    deadline: float,
) -> Repaired:
    """Return operators to integers one by one, least harmful first, as long as the model passes."""
    # While counts rose by one, the last operator is needed: without it the model failed a step before.
    for name in reversed(chosen if len(chosen) > _ONE_BY_ONE else chosen[:-1]):
        if time.monotonic() > deadline:
            break
        fewer = [other for other in chosen if other != name]
        candidate = build([*kept, *fewer])
        step = gate.step(candidate, _description(fewer))
        if step.passed:
            chosen, data = fewer, candidate
            steps.append(step)
    return Repaired(data, (*kept, *chosen), tuple(steps))


def _description(names: Sequence[str]) -> str:
    shown = ", ".join(short_name(name) for name in names[:4]) + (", …" if len(names) > 4 else "")
    return f"{len(names)} operator{'s' if len(names) != 1 else ''} in float32: {shown}"


def short_name(output: str) -> str:
    """Extract the layer's name, such as ``block_1_expand``, from the converter's long tensor names."""
    parts = [part for part in output.replace(";", "/").split("/") if part]
    inner = [part for part in parts if not part.startswith(("batchnorm", "convolution", "BiasAdd", "depthwise", "sub"))]
    return (inner[-1] if inner else output)[:60]
