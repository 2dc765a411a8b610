"""Build each variant from the float32 model, and repair an integer variant that fails the accuracy gate.

Ranges and layer inputs are measured once and shared. Repair keeps the fewest harmful operators in float32.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convert import children
from convert.gate import points
from convert.options import Repair, Rounding
from convert.quantize.calibration import ImageRanges, Ranges, latency_ms, measure, probabilities, ranges
from convert.quantize.gptq import GptqRounder, observe
from convert.quantize.graph import FloatGraph
from convert.quantize.tflite import TfliteQuantizer
from convert.record import CalibrationPoint, Step
from edge_runtime.classifier import top1, widen
from edge_runtime.contract import OutputSpec, Variant

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
    """Passing model with the fewest float32 operators or None, output names of these operators, attempts in order."""

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
    """Search for the fewest operators that must stay in float32, for at most ``seconds`` with the best result so far.

    Calibration images, uint8 [n, H, W, 3], rank the operators; those of the outputs ``kept`` are in float32 anyway.
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


# Covariances converge long before ranges do.
_OBSERVED_IMAGES = 128
_POINT_COUNTS = (8, 32, 128)
_FULL_INTEGER = (Variant.INT8, Variant.INT8_PER_TENSOR)
_ROUNDED = {
    Rounding.NEAREST: "weights rounded to nearest",
    Rounding.CALIBRATED: "weights rounded by calibration, biases corrected",
}


class VariantBuilder:
    """Builder of the variants of one job, in its work folder."""

    def __init__(self, job: children.QuantizeJob) -> None:
        self._job = job
        self._settings = job.settings
        self._work_dir = Path(job.work_dir)

    def build(self, variant: Variant) -> children.BuiltVariant:
        """Write one variant's file, ``<model>-<variant>.<suffix>``, and record the attempts."""
        destination = self._work_dir / variant.file_name(self._job.model_name)
        if variant is Variant.FLOAT32:
            shutil.copyfile(self._work_dir / children.BASE_TFLITE, destination)
        elif variant is Variant.ONNX_FLOAT32:
            shutil.copyfile(self._work_dir / children.BASE_ONNX, destination)
        elif variant is Variant.FLOAT16:
            destination.write_bytes(self._quantizer.float16(self._rounder))
        elif variant is Variant.ONNX_INT8:
            from convert.quantize.onnx_int8 import quantize_onnx

            base, correct_bias = self._work_dir / children.BASE_ONNX, self._settings.rounding is Rounding.CALIBRATED
            quantize_onnx(
                base, self._representative, destination, method=self._settings.method, correct_bias=correct_bias
            )
        elif variant is Variant.EDGETPU:
            # Integers only, even if the gate fails: the compiler accepts nothing else.
            destination.write_bytes(self._quantizer.int8(self._ranges, self._rounder))
        else:
            return self._build_integer(variant, destination)
        return children.BuiltVariant(variant, (), ())

    def points(self) -> tuple[CalibrationPoint, ...]:
        """Measure int8 with fewer calibration images."""
        available = len(self._representative)
        points = []
        for count in [*(n for n in _POINT_COUNTS if n < available), available]:
            images = self._representative[:count]
            found = ranges(self._graph, images, self._measured.first(count), self._settings.method)
            rounder = self._rounder if count >= _OBSERVED_IMAGES else self._make_rounder(images)
            step = self._gate.step(self._quantizer.int8(found, rounder, kept=self._float_first), "")
            points.append(CalibrationPoint(count, step.accuracy, step.agreement))
        return tuple(points)

    def _build_integer(self, variant: Variant, destination: Path) -> children.BuiltVariant:
        """Try nearest rounding and calibrated rounding, then repair."""
        asked = self._float_first if variant in _FULL_INTEGER else []
        notes = [f"the first {len(asked)} operators compute in float32, as requested"] if asked else []
        kept: tuple[str, ...] = ()
        attempts: list[tuple[Step, bytes]] = []
        # Nearest rounding is measured too for int8, where it differs most and is quick to try.
        for rounder in dict.fromkeys((None, self._rounder) if variant in _FULL_INTEGER else (self._rounder,)):
            data = self._quantized(variant, asked, rounder)
            name = _ROUNDED[Rounding.CALIBRATED if rounder else Rounding.NEAREST]
            attempts.append((self._gate.step(data, name), data))
        # The last is kept: calibrated rounding, unless only nearest rounding passed.
        attempts.sort(key=lambda attempt: attempt[0].passed)
        steps, data = [step for step, _ in attempts], attempts[-1][1]
        if not steps[-1].passed and self._settings.repair is Repair.AUTO:
            repaired = repair(
                self._graph,
                lambda kept: self._quantized(variant, [*asked, *kept], self._rounder),
                self._gate,
                self._representative,
                self._settings.repair_seconds,
            )
            steps += repaired.steps
            data, kept = repaired.data or data, repaired.kept
            notes.append(_repair_note(variant, len(kept)))
        destination.write_bytes(data)
        return children.BuiltVariant(variant, tuple(steps), tuple(notes), len({*asked, *kept}))

    def _quantized(self, variant: Variant, kept: Collection[str], rounder: GptqRounder | None) -> bytes:
        if variant is Variant.DYNAMIC:
            return self._quantizer.dynamic(rounder, old_runtime=self._settings.old_runtime, kept=kept)
        if variant is Variant.INT16X8:
            return self._quantizer.int16x8(self._ranges, rounder, kept=kept)
        per_tensor = variant is Variant.INT8_PER_TENSOR
        return self._quantizer.int8(self._ranges, rounder, per_tensor=per_tensor, kept=kept)

    @cached_property
    def _graph(self) -> FloatGraph:
        return FloatGraph((self._work_dir / children.BASE_TFLITE).read_bytes())

    @cached_property
    def _quantizer(self) -> TfliteQuantizer:
        return TfliteQuantizer(self._graph)

    @cached_property
    def _representative(self) -> NDArray[np.uint8]:
        return np.asarray(np.load(self._work_dir / children.REPRESENTATIVE_FILE))

    @cached_property
    def _measured(self) -> ImageRanges:
        return measure(self._graph, self._representative)

    @cached_property
    def _ranges(self) -> Ranges:
        return ranges(self._graph, self._representative, self._measured, self._settings.method)

    @cached_property
    def _rounder(self) -> GptqRounder | None:
        return self._make_rounder(self._representative[:_OBSERVED_IMAGES])

    def _make_rounder(self, images: NDArray[np.uint8]) -> GptqRounder | None:
        if self._settings.rounding is Rounding.NEAREST:
            return None
        return GptqRounder(self._graph, observe(self._graph, images, self._job.seed))

    @cached_property
    def _float_first(self) -> list[str]:
        """Outputs of the operators that stay in float32 by option, pixel scaling not counted."""
        operators = self._graph.operators[self._graph.pixels().operators :][: self._settings.float_first]
        return [self._graph.name(operator.outputs[0]) for operator in operators]

    @cached_property
    def _gate(self) -> AccuracyGate:
        return AccuracyGate(
            images_nhwc_rgb_u8=np.load(self._work_dir / children.CHECK_FILE),
            truth=np.load(self._work_dir / children.TRUTH_FILE),
            keras=widen(np.load(self._work_dir / f"keras-{children.CHECK_FILE}"), self._job.output),
            output=self._job.output,
            max_drop_points=self._job.max_drop_points,
        )


def _repair_note(variant: Variant, kept: int) -> str:
    if not kept:
        return "no choice of operators in float32 gave a model that passes"
    count = "1 of its operators computes" if kept == 1 else f"{kept} of its operators compute"
    note = f"{count} in float32, because with integers it failed its check"
    return f"{note}; so it is not for the Edge TPU" if variant in _FULL_INTEGER else note
