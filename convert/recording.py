"""Put together what a conversion did and saw, for its report."""

from __future__ import annotations

import importlib.metadata
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from convert.arrays import Arrays
from convert.check.record import CalibrationRecord, ConversionRecord, LeftOut, VariantRecord
from convert.export.job import Exported
from convert.measuring import Measured
from convert.quantize.job import Quantized, Settings
from convert.source.model_source import ModelSource
from convert.source.pictures import list_sha256
from edge_runtime.contract import Variant
from edge_runtime.cores import core_count, cpu_model

_PACKAGES = ("ai-edge-quantizer", "ai-edge-litert", "onnx", "onnxruntime", "numpy", "opencv-python-headless")


@dataclass(frozen=True)
class Done:
    """One conversion, before it is written.

    Attributes:
        source: What was converted.
        arrays: The pictures.
        seed: Of their choice.
        settings: How integers were made.
        max_drop_points: The gate.
        exported: What loaded and exported it.
        quantized: How each artifact came about.
        measured: The artifacts that could be run.
        left_out: The others.
        seconds: How long it took.
    """

    source: ModelSource
    arrays: Arrays
    seed: int
    settings: Settings
    max_drop_points: float
    exported: Exported
    quantized: Quantized
    measured: Mapping[Variant, Measured]
    left_out: Sequence[LeftOut]
    seconds: float


def make_record(done: Done) -> ConversionRecord:
    """The record that reports show and the bundle keeps."""
    manifest = done.source.manifest
    made = {entry.variant: entry for entry in done.quantized.made}
    return ConversionRecord(
        model_name=manifest.model_name,
        labels=manifest.labels,
        origin=done.source.origin,
        split=done.arrays.split,
        check_images=len(done.arrays.check),
        max_drop_points=done.max_drop_points,
        calibration=_calibration(done),
        variants=tuple(
            VariantRecord(
                artifact=measured.artifact,
                comparison=measured.comparison,
                latency_ms=measured.latency_ms,
                steps=made[variant].steps,
                notes=made[variant].notes,
                lowest_runtimes=(measured.artifact.minimum_runtime,),
                float_operators=made[variant].float_operators,
            )
            for variant, measured in done.measured.items()
        ),
        left_out=tuple(done.left_out),
        machine=f"{cpu_model()}, {core_count()} cores, {platform.machine()}",
        seconds=done.seconds,
        settings=_settings(done.settings),
        versions=_versions(done.exported),
    )


def _calibration(done: Done) -> CalibrationRecord:
    pictures = done.arrays.representative
    return CalibrationRecord(
        images=len(pictures),
        shared=len({sample.path for sample in pictures} & {sample.path for sample in done.arrays.check}),
        method=done.settings.method.value,
        seed=done.seed,
        sha256=list_sha256(pictures),
        per_class=dict(sorted(Counter(sample.label for sample in pictures).items())),
        points=done.quantized.points,
    )


def _settings(settings: Settings) -> dict[str, str]:
    return {
        "calibration method": settings.method.value,
        "rounding": settings.rounding.value,
        "repair": settings.repair.value,
        "time for repair": f"{settings.repair_seconds:g} s",
        "first operators in float32": str(settings.float_first),
        "for old runtimes": "yes" if settings.old_runtime else "no",
    }


def _versions(exported: Exported) -> dict[str, str]:
    versions = {"model loaded by": exported.keras, "TFLite": exported.converter}
    if exported.onnx_converter:
        versions["ONNX"] = f"{exported.onnx_converter}, opset {exported.opset}"
    for package in _PACKAGES:
        versions[package] = importlib.metadata.version(package)
    return versions
