"""Assemble the record of a conversion and write its bundle: manifest, labels, artifacts, golden data, report."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from convert.adding import IMAGES, KERAS, Held
from convert.children import CHECK_FILE, GOLDEN_INPUT_FILE, Exported, Quantized
from convert.options import Options
from convert.record import RECORD_FILE, CalibrationRecord, ConversionRecord, LeftOut, VariantRecord
from convert.report.page import render_page
from convert.report.text import render
from convert.source.images import ImageArrays, list_sha256
from convert.source.model_source import ModelSource
from edge_runtime.contract import GOLDEN_FILE, LABELS_FILE, MANIFEST_FILE, Manifest, Variant, labels_to_text
from edge_runtime.platform.atomic import atomic_directory
from edge_runtime.platform.board import cpu_model
from edge_runtime.platform.process import core_count

REPORT_FILE = "conversion.html"
MARKDOWN_FILE = "conversion.md"
_PACKAGES = ("ai-edge-quantizer", "ai-edge-litert", "onnx", "onnxruntime", "numpy", "opencv-python-headless")


def make_record(
    source: ModelSource,
    arrays: ImageArrays,
    options: Options,
    exported: Exported,
    quantized: Quantized,
    measured: Mapping[Variant, VariantRecord],
    left_out: Sequence[LeftOut],
    start: float,
) -> ConversionRecord:
    """Assemble the record that the reports show and the bundle stores.

    ``measured`` holds the artifacts that could be run, ``left_out`` the variants that could not be built or run.
    ``start`` is the start of the conversion on the monotonic clock, in seconds.
    """
    manifest, settings, images = source.manifest, options.settings, arrays.representative
    made = {entry.variant: entry for entry in quantized.made}
    return ConversionRecord(
        model_name=manifest.model_name,
        labels=manifest.labels,
        origin=source.origin,
        split=arrays.split,
        check_images=len(arrays.check),
        max_drop_points=options.max_drop_points,
        calibration=CalibrationRecord(
            images=len(images),
            shared=len({sample.path for sample in images} & {sample.path for sample in arrays.check}),
            method=settings.method.value,
            seed=arrays.seed,
            sha256=list_sha256(images),
            per_class=dict(sorted(Counter(sample.label for sample in images).items())),
            points=quantized.points,
        ),
        variants=tuple(
            replace(
                record,
                steps=made[variant].steps,
                notes=made[variant].notes,
                lowest_runtimes=(record.artifact.minimum_runtime,),
                float_operators=made[variant].float_operators,
            )
            for variant, record in measured.items()
        ),
        left_out=tuple(left_out),
        machine=f"{cpu_model()}, {core_count()} cores, {platform.machine()}",
        seconds=time.monotonic() - start,
        settings={
            "calibration method": settings.method.value,
            "rounding": settings.rounding.value,
            "repair": settings.repair.value,
            "time for repair": f"{settings.repair_seconds:g} s",
            "first operators in float32": str(settings.float_first),
            "for old runtimes": "yes" if settings.old_runtime else "no",
        },
        versions=_versions(exported),
    )


def _versions(exported: Exported) -> dict[str, str]:
    versions = {"model loaded by": exported.keras, "TFLite": exported.converter}
    if exported.onnx_converter:
        versions["ONNX"] = f"{exported.onnx_converter}, opset {exported.opset}"
    return versions | {package: importlib.metadata.version(package) for package in _PACKAGES}


def write_bundle(
    destination: Path,
    record: ConversionRecord,
    manifest: Manifest,
    work_dir: Path,
    arrays: ImageArrays,
    *,
    overwrite: bool,
    held: Held | None = None,
) -> None:
    """Write the bundle atomically, without the artifacts that failed their check.

    Nothing is written if every artifact failed. ``manifest`` lists no artifacts yet, ``work_dir`` holds them and the
    images' pixels, and ``arrays`` gives the names of the check images. ``overwrite`` replaces an existing bundle.
    ``held`` is what stays of it: ``record`` includes its variants already.
    """
    passed = tuple(variant.artifact for variant in record.passed)
    if not passed:
        return
    images = np.load(work_dir / CHECK_FILE, mmap_mode="r")
    names = [sample.path.name for sample in arrays.check]
    # Inputs, Keras' probabilities, and those of each variant from the checking engine.
    files = {IMAGES: GOLDEN_INPUT_FILE, KERAS: f"keras-{GOLDEN_INPUT_FILE}"}
    stays = {path.name: path for path in held.files} if held else {}
    made = [artifact for artifact in passed if artifact.file not in stays]
    files |= {artifact.variant.value: f"{artifact.file}-{GOLDEN_INPUT_FILE}" for artifact in made}
    golden: dict[str, Any] = {name: np.load(work_dir / file) for name, file in files.items()}
    if held:
        kept = [entry.artifact.variant.value for entry in held.record.passed]
        golden |= {name: held.golden[name] for name in kept}
    with atomic_directory(destination, marker=MANIFEST_FILE, overwrite=overwrite or held is not None) as folder:
        for artifact in passed:
            shutil.copyfile(stays.get(artifact.file, work_dir / artifact.file), folder / artifact.file)
        (folder / LABELS_FILE).write_text(labels_to_text(manifest.labels), encoding="utf-8")
        np.savez(folder / GOLDEN_FILE, allow_pickle=False, **golden)
        (folder / RECORD_FILE).write_text(record.to_json(), encoding="utf-8")
        (folder / REPORT_FILE).write_text(render_page(record, images, names), encoding="utf-8")
        (folder / MARKDOWN_FILE).write_text(render(record), encoding="utf-8")
        (folder / MANIFEST_FILE).write_text(replace(manifest, artifacts=passed).to_json(), encoding="utf-8")
