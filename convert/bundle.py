"""Assemble the record of a conversion and write its bundle: manifest, labels, artifacts, golden data, report."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convert.measuring import Measured
from convert.messages import CHECK_FILE, GOLDEN_INPUT_FILE, Exported, Quantized, QuantizeSettings
from convert.record import RECORD_FILE, CalibrationRecord, ConversionRecord, LeftOut, VariantRecord
from convert.report.page import render_page
from convert.report.text import render
from convert.source.images import ImageArrays, list_sha256
from convert.source.model_source import ModelSource
from edge_runtime.contract import GOLDEN_FILE, LABELS_FILE, MANIFEST_FILE, Artifact, Manifest, Variant, labels_to_text
from edge_runtime.platform.atomic import atomic_directory
from edge_runtime.platform.board import cpu_model
from edge_runtime.platform.process import core_count

REPORT_FILE = "conversion.html"
MARKDOWN_FILE = "conversion.md"
_PACKAGES = ("ai-edge-quantizer", "ai-edge-litert", "onnx", "onnxruntime", "numpy", "opencv-python-headless")


@dataclass(frozen=True)
class ConversionOutcome:
    """Results of one conversion, before the bundle is written.

    Attributes:
        source: Model that was converted.
        arrays: Images for calibration and checks.
        seed: Seed that chose the images.
        settings: Settings of calibration, rounding and repair.
        max_drop_points: Allowed loss of accuracy, percentage points.
        exported: Tools that loaded and exported the model.
        quantized: Attempts and notes of each variant.
        measured: Artifacts that could be run.
        left_out: Variants that could not be built or run.
        seconds: Duration of the conversion, in seconds.
    """

    source: ModelSource
    arrays: ImageArrays
    seed: int
    settings: QuantizeSettings
    max_drop_points: float
    exported: Exported
    quantized: Quantized
    measured: Mapping[Variant, Measured]
    left_out: Sequence[LeftOut]
    seconds: float


def make_record(done: ConversionOutcome) -> ConversionRecord:
    """Assemble the record that the reports show and the bundle stores."""
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


def _calibration(done: ConversionOutcome) -> CalibrationRecord:
    images = done.arrays.representative
    return CalibrationRecord(
        images=len(images),
        shared=len({sample.path for sample in images} & {sample.path for sample in done.arrays.check}),
        method=done.settings.method.value,
        seed=done.seed,
        sha256=list_sha256(images),
        per_class=dict(sorted(Counter(sample.label for sample in images).items())),
        points=done.quantized.points,
    )


def _settings(settings: QuantizeSettings) -> dict[str, str]:
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


def write_bundle(
    destination: Path,
    record: ConversionRecord,
    manifest: Manifest,
    work_dir: Path,
    arrays: ImageArrays,
    *,
    overwrite: bool,
) -> None:
    """Write the bundle atomically, without the artifacts that failed their check.

    Nothing is written if every artifact failed.

    Args:
        destination: Folder of the bundle.
        record: Measurements of the conversion.
        manifest: Manifest of the model, without artifacts.
        work_dir: Folder with the artifacts and arrays.
        arrays: Check images, for their names.
        overwrite: True to replace an existing bundle.
    """
    passed = tuple(variant.artifact for variant in record.passed)
    if not passed:
        return
    images = np.load(work_dir / CHECK_FILE, mmap_mode="r")
    names = [sample.path.name for sample in arrays.check]
    with atomic_directory(destination, marker=MANIFEST_FILE, overwrite=overwrite) as folder:
        for artifact in passed:
            shutil.copyfile(work_dir / artifact.file, folder / artifact.file)
        (folder / LABELS_FILE).write_text(labels_to_text(manifest.labels), encoding="utf-8")
        np.savez(folder / GOLDEN_FILE, allow_pickle=False, **_golden(work_dir, passed))
        (folder / RECORD_FILE).write_text(record.to_json(), encoding="utf-8")
        (folder / REPORT_FILE).write_text(render_page(record, images, names), encoding="utf-8")
        (folder / MARKDOWN_FILE).write_text(render(record), encoding="utf-8")
        (folder / MANIFEST_FILE).write_text(replace(manifest, artifacts=passed).to_json(), encoding="utf-8")


def _golden(work_dir: Path, artifacts: tuple[Artifact, ...]) -> dict[str, NDArray[Any]]:
    """Collect ``images_nhwc_rgb_u8``, ``keras``, and each variant's probabilities from the checking engine."""
    arrays = {
        "images_nhwc_rgb_u8": np.load(work_dir / GOLDEN_INPUT_FILE),
        "keras": np.load(work_dir / f"keras-{GOLDEN_INPUT_FILE}"),
    }
    for artifact in artifacts:
        arrays[artifact.variant.value] = np.load(work_dir / f"{artifact.file}-{GOLDEN_INPUT_FILE}")
    return arrays
