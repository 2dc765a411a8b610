"""Build each variant from the float32 model; ranges and layer inputs are measured once and shared."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convert.messages import (
    BASE_ONNX,
    BASE_TFLITE,
    CHECK_FILE,
    REPRESENTATIVE_FILE,
    TRUTH_FILE,
    BuiltVariant,
    QuantizeJob,
)
from convert.options import Repair, Rounding
from convert.quantize.calibration import ImageRanges, Ranges, measure, ranges
from convert.quantize.gptq import GptqRounder, observe
from convert.quantize.graph import FloatGraph
from convert.quantize.repair import AccuracyGate, repair
from convert.quantize.tflite import TfliteQuantizer
from convert.record import CalibrationPoint, Step
from edge_runtime.classifier import widen
from edge_runtime.contract import Variant

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

    def __init__(self, job: QuantizeJob) -> None:
        self._job = job
        self._settings = job.settings
        self._work_dir = Path(job.work_dir)

    def build(self, variant: Variant) -> BuiltVariant:
        """Write one variant's file, ``<model>-<variant>.<suffix>``, and record the attempts."""
        destination = self._work_dir / variant.file_name(self._job.model_name)
        if variant is Variant.FLOAT32:
            shutil.copyfile(self._work_dir / BASE_TFLITE, destination)
        elif variant is Variant.ONNX_FLOAT32:
            shutil.copyfile(self._work_dir / BASE_ONNX, destination)
        elif variant is Variant.FLOAT16:
            destination.write_bytes(self._quantizer.float16(self._rounder))
        elif variant is Variant.ONNX_INT8:
            self._build_onnx_int8(destination)
        elif variant is Variant.EDGETPU:
            # Integers only, even if the gate fails: the compiler accepts nothing else.
            destination.write_bytes(self._quantizer.int8(self._ranges, self._rounder))
        else:
            return self._build_integer(variant, destination)
        return BuiltVariant(variant, (), ())

    def points(self) -> tuple[CalibrationPoint, ...]:
        """Measure int8 with fewer calibration images."""
        available = len(self._representative)
        return tuple(self._point(count) for count in [n for n in _POINT_COUNTS if n < available] + [available])

    def _point(self, count: int) -> CalibrationPoint:
        images = self._representative[:count]
        found = ranges(self._graph, images, self._measured.first(count), self._settings.method)
        rounder = self._rounder if count >= _OBSERVED_IMAGES else self._make_rounder(images)
        step = self._gate.step(self._quantizer.int8(found, rounder, kept=self._float_first), "")
        return CalibrationPoint(count, step.accuracy, step.agreement)

    def _build_onnx_int8(self, destination: Path) -> None:
        from convert.quantize.onnx_int8 import quantize_onnx

        quantize_onnx(
            self._work_dir / BASE_ONNX,
            self._representative,
            destination,
            method=self._settings.method,
            correct_bias=self._settings.rounding is Rounding.CALIBRATED,
        )

    def _build_integer(self, variant: Variant, destination: Path) -> BuiltVariant:
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
        return BuiltVariant(variant, tuple(steps), tuple(notes), len({*asked, *kept}))

    def _quantized(self, variant: Variant, kept: Collection[str], rounder: GptqRounder | None) -> bytes:
        if variant is Variant.DYNAMIC:
            return self._quantizer.dynamic(rounder, old_runtime=self._settings.old_runtime, kept=kept)
        if variant is Variant.INT16X8:
            return self._quantizer.int16x8(self._ranges, rounder, kept=kept)
        per_tensor = variant is Variant.INT8_PER_TENSOR
        return self._quantizer.int8(self._ranges, rounder, per_tensor=per_tensor, kept=kept)

    @cached_property
    def _graph(self) -> FloatGraph:
        return FloatGraph((self._work_dir / BASE_TFLITE).read_bytes())

    @cached_property
    def _quantizer(self) -> TfliteQuantizer:
        return TfliteQuantizer(self._graph)

    @cached_property
    def _representative(self) -> NDArray[np.uint8]:
        images: NDArray[np.uint8] = np.load(self._work_dir / REPRESENTATIVE_FILE)
        return images

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
            images_nhwc_rgb_u8=np.load(self._work_dir / CHECK_FILE),
            truth=np.load(self._work_dir / TRUTH_FILE),
            keras=widen(np.load(self._work_dir / f"keras-{CHECK_FILE}"), self._job.output),
            output=self._job.output,
            max_drop_points=self._job.max_drop_points,
        )


def _repair_note(variant: Variant, kept: int) -> str:
    if not kept:
        return "no choice of operators in float32 gave a model that passes"
    count = "1 of its operators computes" if kept == 1 else f"{kept} of its operators compute"
    note = f"{count} in float32, because with integers it failed its check"
    return f"{note}; so it is not for the Edge TPU" if variant in _FULL_INTEGER else note
