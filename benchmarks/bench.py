"""``edge-bench run`` as one plain function: bundle and pictures in, report directory out."""

from __future__ import annotations

import csv
import datetime
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.evaluation import EvaluationSet, choose_pictures, hashes_trained_on, prepare_pictures
from benchmarks.machine import describe_machine
from benchmarks.measure import Measurement, measure_subject
from benchmarks.plan import (
    KERAS_FUNCTION,
    KERAS_PREDICT,
    BenchConfig,
    SubjectPlan,
    check_run,
    plan_subjects,
    remarks_on_checks,
)
from benchmarks.report.markdown import render_markdown
from benchmarks.report.record import (
    ANSWERS_FILE,
    LATENCIES_FILE,
    MARKDOWN_FILE,
    REPORT_FILE,
    Performance,
    Report,
    SubjectResult,
)
from benchmarks.statistics import Share, percentile, share_of, summarize_latencies
from edge_runtime import __version__
from edge_runtime.atomic import atomic_directory, check_free
from edge_runtime.board import throttled
from edge_runtime.cli_support import progress_bar
from edge_runtime.contract import MANIFEST_FILE, Manifest, Variant
from edge_runtime.errors import OutputError
from edge_runtime.modelfile import default_order, file_sha256, read_bundle_manifest
from edge_runtime.remembered import candidates, remember


def run_bench(config: BenchConfig) -> Report:
    """Measure a bundle and write the report directory.

    Raises:
        EdgeKitError: The bundle, the run, the pictures or the output directory cannot be used. A single artifact
            that cannot be measured is no error but a row of the report.
    """
    manifest = read_bundle_manifest(config.bundle)
    plans = plan_subjects(config, manifest)
    check_free(config.out, overwrite=config.overwrite, marker=REPORT_FILE)
    remarks = remarks_on_checks(manifest, plans) + (check_run(config.keras, manifest) if config.keras else ())
    trained_on = hashes_trained_on(config.keras) if config.keras else None
    chosen = choose_pictures(config)
    created = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    machine = describe_machine()
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as name:
        folder = Path(name)
        pictures = prepare_pictures(chosen, manifest.labels, manifest.input, trained_on, folder)
        measurements = _measure_all(plans, config, pictures, folder)
    report = Report(
        tool=f"edgekit {__version__}",
        created_utc=created,
        command=config.command,
        model_name=manifest.model_name,
        bundle=str(config.bundle),
        bundle_manifest_sha256=file_sha256(config.bundle / MANIFEST_FILE),
        keras_run=str(config.keras) if config.keras else None,
        threads=config.threads,
        machine=machine,
        data=pictures.record,
        subjects=compare(measurements, pictures.truth),
        remarks=remarks,
    )
    _write(config, report, manifest, pictures, measurements)
    return report


def remember_fastest(report: Report, manifest: Manifest) -> Variant | None:
    """Let ``edge-run`` take the variant that was fastest here, from now on.

    Returns:
        That variant; None where the report does not tell, or where nothing can be remembered on this machine.
    """
    variants = {variant.value: variant for variant in Variant}
    p50_ms = {
        variants[subject.name]: subject.performance.latency.p50_ms
        for subject in report.subjects
        if subject.name in variants and subject.performance
    }
    # What was left out might have been faster, several threads are not how a folder is classified, and a hot board is
    # slow at everything that comes late.
    if report.threads != 1 or not set(candidates(manifest)) <= set(p50_ms) or throttled():
        return None
    try:
        return remember(manifest, p50_ms, default_order())
    except OutputError:
        return None


def compare(measurements: Sequence[Measurement], truth: Sequence[int]) -> tuple[SubjectResult, ...]:
    """Turn measurements into rows: accuracy, agreement and speed-up against Keras where it was measured.

    Args:
        measurements: One per subject.
        truth: Label index of each picture.
    """
    done = {item.plan.name: item for item in measurements if item.error is None}
    reference = done.get(KERAS_PREDICT) or done.get(KERAS_FUNCTION)
    function = done.get(KERAS_FUNCTION)
    function_p50_ns = percentile(function.latencies_ns, 50) if function else None
    return tuple(_row(item, truth, reference, function_p50_ns) for item in measurements)


def _row(
    item: Measurement, truth: Sequence[int], reference: Measurement | None, function_p50_ns: float | None
) -> SubjectResult:
    performance = None
    if item.cold_start is not None:
        latency = summarize_latencies(item.latencies_ns)
        performance = Performance(
            runtime=item.runtime,
            tensorflow_loaded=item.tensorflow_loaded,
            accuracy=_matches(item.top1, truth),
            agreement=_matches(item.top1, reference.top1) if reference and reference is not item else None,
            latency=latency,
            waiting=item.waiting,
            cold_start=item.cold_start,
            peak_memory_bytes=item.peak_memory_bytes,
            speedup=function_p50_ns / 1e6 / latency.p50_ms if function_p50_ns else None,
        )
    return SubjectResult(item.plan.name, item.plan.file.name, item.plan.bytes, item.error, performance)


def _matches(answers: Sequence[int], expected: Sequence[int]) -> Share:
    return share_of(sum(a == b for a, b in zip(answers, expected, strict=True)), len(expected))


def _measure_all(
    plans: Sequence[SubjectPlan], config: BenchConfig, pictures: EvaluationSet, folder: Path
) -> list[Measurement]:
    with progress_bar("measuring", sum(plan.starts for plan in plans)) as progress:
        return [measure_subject(plan, config, pictures, folder, progress) for plan in plans]


def _write(
    config: BenchConfig,
    report: Report,
    manifest: Manifest,
    pictures: EvaluationSet,
    measurements: Sequence[Measurement],
) -> None:
    done = [item for item in measurements if item.error is None]
    with atomic_directory(config.out, marker=REPORT_FILE, overwrite=config.overwrite) as folder:
        (folder / REPORT_FILE).write_text(report.to_json(), encoding="utf-8", errors="surrogateescape")
        (folder / MARKDOWN_FILE).write_text(render_markdown(report), encoding="utf-8", errors="surrogateescape")
        latencies = [(item.plan.name, index, ns / 1e6) for item in done for index, ns in enumerate(item.latencies_ns)]
        _write_csv(folder / LATENCIES_FILE, ("subject", "invocation", "latency_ms"), latencies)
        columns = ("file", "label", *(item.plan.name for item in done))
        answers = [
            (sample.path, sample.label, *(manifest.labels[item.top1[index]] for item in done))
            for index, sample in enumerate(pictures.samples)
        ]
        _write_csv(folder / ANSWERS_FILE, columns, answers)


def _write_csv(path: Path, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
