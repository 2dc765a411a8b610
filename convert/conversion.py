"""Run one conversion from start to end: images, export, quantization, metadata, check, bundle."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from convert import metadata
from convert.bundle import ConversionOutcome, make_record, write_bundle
from convert.children import run_child, space_in
from convert.edgetpu import compile_for_edgetpu, find_compiler
from convert.lint.operators import unsupported
from convert.measuring import Measured, measure, minimum_runtime
from convert.messages import (
    EXPORT_MODULE,
    EXPORTED_FILE,
    QUANTIZE_MODULE,
    QUANTIZED_FILE,
    Exported,
    ExportJob,
    Quantized,
    QuantizeJob,
    QuantizeSettings,
    read_message,
)
from convert.options import ForeignOptions
from convert.record import ConversionRecord, LeftOut
from convert.source.images import choose_images, write_arrays
from convert.source.model_source import ModelSource, read_model
from convert.tflite_model import read_model as read_tflite
from edge_runtime.contract import MANIFEST_FILE, Manifest, Variant
from edge_runtime.errors import EdgeKitError
from edge_runtime.model.bundle import file_sha256
from edge_runtime.platform.atomic import check_free
from edge_runtime.tflite.versions import parse_target

Report = Callable[[str], None]

# All variants that need no other program.
DEFAULT_VARIANTS = tuple(variant for variant in Variant if variant is not Variant.EDGETPU)


@dataclass(frozen=True)
class Options:
    """Options of one conversion.

    Attributes:
        variants: Variants to export, in order.
        foreign: Contract of a model without a manifest.
        calibration: SRC for calibration and checks instead of the run's own images, or None.
        calibration_images: Number of images for calibration, at least 1.
        seed: Seed for choosing calibration images; None takes the run's.
        max_drop_points: Allowed loss of accuracy against Keras, percentage points.
        settings: Settings of calibration, rounding and repair.
        runtime: Runtime that must open every TFLite file, such as ``tflite-runtime==2.14``, or None.
        edgetpu_share: Minimum share of operators that map to the Edge TPU, 0..1.
        overwrite: True to replace an existing bundle.
    """

    variants: tuple[Variant, ...] = DEFAULT_VARIANTS
    foreign: ForeignOptions = field(default_factory=ForeignOptions)
    calibration: str | None = None
    calibration_images: int = 500
    seed: int | None = None
    max_drop_points: float = 1.0
    settings: QuantizeSettings = field(default_factory=QuantizeSettings)
    runtime: str | None = None
    edgetpu_share: float = 0.9
    overwrite: bool = False


@dataclass(frozen=True)
class _Work:
    """Context of one conversion, shared by its steps."""

    source: ModelSource
    options: Options
    folder: Path
    report: Report

    @property
    def manifest(self) -> Manifest:
        return self.source.manifest

    @property
    def compiler_input(self) -> Path:
        return self.folder / "for-edgetpu.tflite"

    def file(self, variant: Variant) -> Path:
        return self.folder / variant.file_name(self.manifest.model_name)


def convert(path: Path, bundle: Path | None, options: Options, report: Report) -> tuple[Path, ConversionRecord]:
    """Convert a model into a bundle.

    Args:
        path: Run directory, or a model from elsewhere.
        bundle: Folder of the bundle; None means ``bundles/<model name>``.
        options: Options of the conversion.
        report: Called with one line per finished step.

    Returns:
        Folder of the bundle, and the record of all artifacts, including those that failed the gate and are therefore
        not in the bundle.

    Raises:
        EdgeKitError: The model, its images or the destination cannot be used, or a child process failed.
    """
    start = time.monotonic()
    _check_options(options)
    source = read_model(path, options.foreign, has_calibration=options.calibration is not None)
    images = choose_images(source, path, options.calibration, options.calibration_images, options.seed)
    destination = bundle or Path("bundles") / source.manifest.model_name
    check_free(destination, overwrite=options.overwrite, marker=MANIFEST_FILE)
    with space_in(Path(tempfile.gettempdir())), tempfile.TemporaryDirectory(prefix="edge-convert-") as folder:
        work = _Work(source, options, Path(folder), report)
        arrays = write_arrays(source.manifest, images, work.folder, report)
        exported = _export(work)
        quantized = _quantize(work, exported, images.seed)
        files, left_out = _finish(work, exported, quantized)
        report(f"checking {len(files)} artifacts on {len(arrays.check)} images")
        measured, not_run = measure(files, source.manifest, arrays.split, work.folder, options.max_drop_points)
        not_compiled = _compile(work, measured)
        done = ConversionOutcome(
            source, arrays, images.seed, options.settings, options.max_drop_points, exported, quantized,
            measured, [*left_out, *not_run, *not_compiled], time.monotonic() - start,
        )  # fmt: skip
        record = make_record(done)
        with space_in(destination, "choose another --out"):
            write_bundle(destination, record, source.manifest, work.folder, arrays, overwrite=options.overwrite)
    return destination, record


def _check_options(options: Options) -> None:
    """Check early what would otherwise fail at the end."""
    if options.runtime:
        parse_target(options.runtime)
    if Variant.EDGETPU in options.variants:
        find_compiler()


def _export(work: _Work) -> Exported:
    """Write the float32 models and Keras' own outputs in the one process that imports TensorFlow."""
    onnx = any(variant.suffix == ".onnx" for variant in work.options.variants)
    job = export_job(work.source, work.folder, onnx=onnx)
    run_child(EXPORT_MODULE, job, work.folder, on_line=lambda line: work.report(f"exported {line}"))
    return read_message(work.folder / EXPORTED_FILE, Exported)


def export_job(source: ModelSource, work_dir: Path, *, onnx: bool) -> ExportJob:
    """Build the job that exports a model."""
    manifest = source.manifest
    return ExportJob(
        model=str(source.path.resolve()),
        shown=str(source.path),
        loader=source.loader,
        input=manifest.input,
        label_count=len(manifest.labels),
        head=manifest.output.head,
        input_range=source.input_range,
        color=source.color,
        output=source.output,
        unsafe=source.unsafe,
        onnx=onnx,
        work_dir=str(work_dir),
    )


def _quantize(work: _Work, exported: Exported, seed: int) -> Quantized:
    """Build every variant from the float32 models that were exported."""
    job = QuantizeJob(
        work_dir=str(work.folder),
        model_name=work.manifest.model_name,
        variants=tuple(v for v in work.options.variants if v.suffix != ".onnx" or not exported.onnx_failure),
        output=work.manifest.output,
        max_drop_points=work.options.max_drop_points,
        seed=seed,
        settings=work.options.settings,
    )
    run_child(QUANTIZE_MODULE, job, work.folder, on_line=lambda line: work.report(f"made {line}"))
    return read_message(work.folder / QUANTIZED_FILE, Quantized)


def _finish(work: _Work, exported: Exported, quantized: Quantized) -> tuple[dict[Variant, Path], list[LeftOut]]:
    """Embed metadata in the files; leave out those that were not built or that the wanted runtime cannot open."""
    failures = {made.variant: made.failure for made in quantized.made}
    runtime = work.options.runtime
    files: dict[Variant, Path] = {}
    left_out: list[LeftOut] = []
    for variant in work.options.variants:
        file = work.file(variant)
        if failure := failures.get(variant, exported.onnx_failure):
            left_out.append(LeftOut(variant.value, failure))
            continue
        if file.suffix == ".onnx":
            metadata.embed_onnx(file, work.manifest)
        else:
            if runtime and (problems := unsupported(read_tflite(file), parse_target(runtime))):
                left_out.append(LeftOut(variant.value, f"{runtime} cannot open it: {problems[0].why}"))
                continue
            if variant is Variant.EDGETPU:
                shutil.copyfile(file, work.compiler_input)
            metadata.embed_tflite(file, work.manifest)
        files[variant] = file
    return files, left_out


def _compile(work: _Work, measured: dict[Variant, Measured]) -> list[LeftOut]:
    """Replace the CPU fallback, which could be measured here, by the model compiled for the Edge TPU."""
    cpu_fallback = measured.get(Variant.EDGETPU)
    if cpu_fallback is None or not cpu_fallback.comparison.check.passed:
        return []
    try:
        result = compile_for_edgetpu(work.compiler_input, work.folder, minimum_share=work.options.edgetpu_share)
    except EdgeKitError as error:
        del measured[Variant.EDGETPU]
        return [LeftOut(Variant.EDGETPU.value, str(error).removeprefix(f"{work.compiler_input}: "))]
    file = work.file(Variant.EDGETPU)
    shutil.copyfile(result.file, file)
    metadata.embed_tflite(file, work.manifest)
    artifact = replace(
        cpu_fallback.artifact,
        sha256=file_sha256(file),
        bytes=file.stat().st_size,
        minimum_runtime=minimum_runtime(file),
    )
    # The latency was the CPU's.
    measured[Variant.EDGETPU] = replace(cpu_fallback, artifact=artifact, latency_ms=0.0)
    return []
