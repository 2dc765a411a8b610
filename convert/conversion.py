"""Run one conversion from start to end: images, export, quantization, metadata, check, bundle."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from convert import children, metadata
from convert.adding import Held, OtherModelError, read_held
from convert.bundle import make_record, write_bundle
from convert.edgetpu import compile_for_edgetpu, find_compiler
from convert.measuring import measure, minimum_runtime
from convert.options import Options
from convert.record import ConversionRecord, LeftOut, VariantRecord
from convert.source.images import ImageArrays, choose_images, list_sha256, write_arrays
from convert.source.model_source import ModelSource, read_model
from convert.tflite_model import read_model as read_tflite
from convert.tflite_model import unsupported
from edge_runtime.contract import MANIFEST_FILE, Manifest, Variant
from edge_runtime.errors import EdgeKitError
from edge_runtime.model.bundle import file_sha256
from edge_runtime.platform.atomic import check_free, temporary_folder
from edge_runtime.tflite.versions import parse_target

Report = Callable[[str], None]


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
    # Checked here, since they would otherwise fail at the end.
    if options.runtime:
        parse_target(options.runtime)
    if Variant.EDGETPU in options.variants:
        find_compiler()
    source = read_model(path, options.foreign, has_calibration=options.calibration is not None)
    images = choose_images(source, path, options.calibration, options.calibration_images, options.seed)
    destination = bundle or Path("bundles") / source.manifest.model_name
    held = _held(destination, source.manifest, options, report) if options.add else None
    if held is None:
        check_free(destination, overwrite=options.overwrite, marker=MANIFEST_FILE)
    with children.space_in(Path(tempfile.gettempdir())), temporary_folder("convert") as folder:
        work = _Work(source, options, folder, report)
        arrays = write_arrays(source.manifest, images, work.folder, report)
        exported = _export(work)
        held = held and _same_model(held, work, arrays)
        quantized = _quantize(work, exported, images.seed)
        files, left_out = _finish(work, exported, quantized)
        report(f"checking {len(files)} artifacts on {len(arrays.check)} images")
        measured, not_run = measure(files, source.manifest, arrays.split, work.folder, options.max_drop_points)
        not_compiled = _compile(work, measured)
        record = make_record(
            source, arrays, options, exported, quantized, measured, [*left_out, *not_run, *not_compiled], start
        )
        if held:
            record = held.merge(record)
        with children.space_in(destination, "choose another --out"):
            write_bundle(
                destination, record, source.manifest, work.folder, arrays, overwrite=options.overwrite, held=held
            )
    return destination, record


def _held(bundle: Path, manifest: Manifest, options: Options, report: Report) -> Held | None:
    """Read the content of a bundle that stays; a bundle of another model is replaced whole, if that was asked for."""
    try:
        return read_held(bundle, manifest, options.variants, overwrite=options.overwrite)
    except OtherModelError:
        if not options.overwrite:
            raise
        report(f"{bundle} is of another model and is replaced whole")
        return None


def _same_model(held: Held, work: _Work, arrays: ImageArrays) -> Held | None:
    """Compare the bundle's golden answers with the exported ones; likewise."""
    try:
        held.check_same(
            work.folder,
            split=arrays.split,
            check_images=len(arrays.check),
            max_drop_points=work.options.max_drop_points,
            calibration_sha256=list_sha256(arrays.representative),
        )
    except OtherModelError:
        if not work.options.overwrite:
            raise
        work.report(f"{held.bundle} is of another training and is replaced whole")
        return None
    return held


def _export(work: _Work) -> children.Exported:
    """Write the float32 models and Keras' own outputs in the one process that imports TensorFlow."""
    job = export_job(work.source, work.folder, onnx=any(v.suffix == ".onnx" for v in work.options.variants))
    children.run_child(
        children.EXPORT_MODULE,
        job,
        work.folder,
        on_line=lambda line: work.report(f"exported {line}"),
        memory_bytes=children.export_memory(work.source.path),
    )
    return children.read_message(work.folder / children.EXPORTED_FILE, children.Exported)


def export_job(source: ModelSource, work_dir: Path, *, onnx: bool) -> children.ExportJob:
    """Build the job that exports a model."""
    manifest = source.manifest
    return children.ExportJob(
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


def _quantize(work: _Work, exported: children.Exported, seed: int) -> children.Quantized:
    """Build every variant from the float32 models that were exported."""
    job = children.QuantizeJob(
        work_dir=str(work.folder),
        model_name=work.manifest.model_name,
        variants=tuple(v for v in work.options.variants if v.suffix != ".onnx" or not exported.onnx_failure),
        output=work.manifest.output,
        max_drop_points=work.options.max_drop_points,
        seed=seed,
        settings=work.options.settings,
    )
    children.run_child(children.QUANTIZE_MODULE, job, work.folder, on_line=lambda line: work.report(f"made {line}"))
    return children.read_message(work.folder / children.QUANTIZED_FILE, children.Quantized)


def _finish(
    work: _Work, exported: children.Exported, quantized: children.Quantized
) -> tuple[dict[Variant, Path], list[LeftOut]]:
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


def _compile(work: _Work, measured: dict[Variant, VariantRecord]) -> list[LeftOut]:
    """Replace the CPU fallback, which could be measured here, by the model compiled for the Edge TPU."""
    cpu_fallback = measured.get(Variant.EDGETPU)
    if cpu_fallback is None or not cpu_fallback.comparison.check.passed:
        return []
    try:
        compiled, _ = compile_for_edgetpu(work.compiler_input, work.folder, minimum_share=work.options.edgetpu_share)
    except EdgeKitError as error:
        del measured[Variant.EDGETPU]
        return [LeftOut(Variant.EDGETPU.value, str(error).removeprefix(f"{work.compiler_input}: "))]
    file = work.file(Variant.EDGETPU)
    shutil.copyfile(compiled, file)
    metadata.embed_tflite(file, work.manifest)
    sha256, size, runtime = file_sha256(file), file.stat().st_size, minimum_runtime(file)
    artifact = replace(cpu_fallback.artifact, sha256=sha256, bytes=size, minimum_runtime=runtime)
    # The latency was the CPU's.
    measured[Variant.EDGETPU] = replace(cpu_fallback, artifact=artifact, latency_ms=0.0)
    return []
