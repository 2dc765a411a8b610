"""One conversion from start to end: pictures, export, metadata, check, bundle."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convert import onnx_metadata, tflite_metadata, tflite_model
from convert.bundle import write_bundle
from convert.compare import Reference, compare
from convert.job import (
    CHECK_FILE,
    GOLDEN_INPUT_FILE,
    REPRESENTATIVE_FILE,
    CheckJob,
    ExportJob,
    Observation,
    read_json,
    run_child,
)
from convert.run_source import RunSource, read_run
from edge_runtime.atomic import check_free
from edge_runtime.contract import MANIFEST_FILE, Artifact, InputSpec, Manifest, Variant
from edge_runtime.datasets.decode import decode_all
from edge_runtime.datasets.samples import Sample, Split
from edge_runtime.decision import widen
from edge_runtime.errors import DatasetError
from edge_runtime.modelfile import file_sha256

Report = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """Choices of one conversion.

    Attributes:
        variants: What to export.
        calibration: SRC for calibration and checks instead of the run's own pictures, or None.
        calibration_images: Pictures for calibration.
        max_drop_points: Allowed loss of accuracy against Keras, percentage points.
        overwrite: Whether an existing bundle is replaced.
    """

    variants: tuple[Variant, ...]
    calibration: str | None = None
    calibration_images: int = 500
    max_drop_points: float = 1.0
    overwrite: bool = False


def convert_run(run: Path, bundle: Path | None, options: Options, report: Report) -> tuple[Path, Manifest]:
    """Convert a run directory into a bundle.

    Args:
        run: What ``edge-train run`` wrote.
        bundle: Where the bundle goes; None means ``bundles/<model name>``.
        options: Choices.
        report: Called with one line per finished step.

    Returns:
        Where the bundle lies, and a manifest with every artifact, also those that failed the gate and are therefore
        not in the bundle.

    Raises:
        EdgeKitError: The run, its pictures or the destination cannot be used, or a child process failed.
    """
    source = read_run(run, options.calibration, options.calibration_images)
    destination = bundle or Path("bundles") / source.manifest.model_name
    check_free(destination, overwrite=options.overwrite, marker=MANIFEST_FILE)
    with tempfile.TemporaryDirectory(prefix="edge-convert-") as folder:
        work_dir = Path(folder)
        truth, split = _write_pictures(source, work_dir, report)
        files = _export(source, options.variants, work_dir, report)
        run_child("convert.check_child", CheckJob(tuple(str(file) for file in files.values()), folder))
        output = source.manifest.output
        reference = Reference(
            split=split,
            truth=truth,
            check=widen(np.load(work_dir / f"keras-{CHECK_FILE}"), output),
            golden=widen(np.load(work_dir / f"keras-{GOLDEN_INPUT_FILE}"), output),
        )
        artifacts = tuple(
            _measured_artifact(variant, file, source.manifest, reference, options.max_drop_points)
            for variant, file in files.items()
        )
        measured = replace(source.manifest, artifacts=artifacts)
        write_bundle(destination, measured, work_dir, source, options.overwrite)
    return destination, measured


def _write_pictures(source: RunSource, work_dir: Path, report: Report) -> tuple[NDArray[np.int64], str]:
    """Decode every needed picture once into the work folder; give the truth of the check pictures and their split."""
    spec, labels = source.manifest.input, source.manifest.labels
    representative, _ = _decode(source.representative, spec, report)
    check, kept = _decode(source.check, spec, report)
    golden, _ = _decode(source.golden, spec, report)
    np.save(work_dir / REPRESENTATIVE_FILE, representative)
    np.save(work_dir / CHECK_FILE, check)
    np.save(work_dir / GOLDEN_INPUT_FILE, golden)
    truth = np.array([labels.index(sample.label) for sample in kept], np.int64)
    split = Split.VALIDATION.value if all(s.split is Split.VALIDATION for s in kept) else "all"
    report(f"calibrating with {len(representative)} pictures, checking on {len(check)} ({split})")
    return truth, split


def _decode(samples: Sequence[Sample], spec: InputSpec, report: Report) -> tuple[NDArray[np.uint8], list[Sample]]:
    decoded = decode_all([sample.path for sample in samples], spec)
    for index, reason in decoded.failures:
        report(f"left out {samples[index].path}: {reason}")
    if not decoded.kept:
        raise DatasetError(
            "none of the pictures for calibration and checks can be read; give others with --calibration"
        )
    return decoded.images_nhwc_rgb_u8, [samples[index] for index in decoded.kept]


def _export(source: RunSource, variants: tuple[Variant, ...], work_dir: Path, report: Report) -> dict[Variant, Path]:
    """Export in a child process, then make each file self-describing."""
    manifest = source.manifest
    job = ExportJob(str(source.model_path.resolve()), manifest.input, variants, manifest.model_name, str(work_dir))
    run_child("convert.export_child", job, on_line=lambda line: report(f"exported {line}"))
    files = {variant: work_dir / variant.file_name(manifest.model_name) for variant in variants}
    for file in files.values():
        (onnx_metadata if file.suffix == ".onnx" else tflite_metadata).embed(file, manifest)
    return files


def _measured_artifact(
    variant: Variant, file: Path, manifest: Manifest, reference: Reference, max_drop_points: float
) -> Artifact:
    observation = read_json(file.with_name(f"{file.name}.json"), Observation)
    check = compare(
        reference,
        np.load(file.with_name(f"{file.name}-{CHECK_FILE}")),
        np.load(file.with_name(f"{file.name}-{GOLDEN_INPUT_FILE}")),
        manifest.output,
        variant=variant,
        engine=observation.engine,
        max_drop_points=max_drop_points,
    )
    is_onnx = file.suffix == ".onnx"
    return Artifact(
        variant=variant,
        file=file.name,
        sha256=file_sha256(file),
        bytes=file.stat().st_size,
        input=observation.input,
        output=observation.output,
        minimum_runtime=onnx_metadata.minimum_runtime(file)
        if is_onnx
        else tflite_model.minimum_runtime(tflite_model.unpack_model(file.read_bytes())),
        check=check,
    )
