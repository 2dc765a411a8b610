"""``edge-bench run`` as one function: bundle and images in, report directory out."""

from __future__ import annotations

import contextlib
import datetime
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.assembly import assemble
from benchmarks.evaluation import EvaluationSet, choose_images, hashes_trained_on, prepare_images
from benchmarks.machine import describe_machine
from benchmarks.measuring.schedule import Measurement, measure_all, steps
from benchmarks.plan import BenchConfig, SubjectPlan, check_run, plan_subjects, remarks_on_checks, remarks_on_plan
from benchmarks.records import REPORT_FILE, Answers, BoardWatch, Report
from benchmarks.report.files import write_report
from benchmarks.report.verdict import verdict
from benchmarks.resources.board_state import BoardWatcher, invalid_reasons
from benchmarks.resources.power_meters import open_meter
from benchmarks.settings import Settings
from benchmarks.statistics import NS_PER_MS
from edge_runtime import __version__
from edge_runtime.classifier import top1
from edge_runtime.contract import MANIFEST_FILE, Manifest, Variant
from edge_runtime.errors import OutputError
from edge_runtime.model.bundle import candidates, file_sha256, read_bundle_manifest, remember_fastest
from edge_runtime.platform.atomic import atomic_directory, check_free, temporary_folder
from edge_runtime.progress import progress_bar

_DISTURBED_WAITING = 0.2
"""Share of the timed calls spent waiting for a CPU above which the order of the latencies is not reliable."""


def run_bench(config: BenchConfig) -> Report:
    """Measure a bundle and write the report directory.

    Raises:
        EdgeKitError: The bundle, the run, the images, the power meter or the output directory cannot be used. A
            single artifact that cannot be measured is no error but a row of the report.
    """
    manifest = read_bundle_manifest(config.bundle)
    plans = plan_subjects(config, manifest)
    check_free(config.out, overwrite=config.overwrite, marker=REPORT_FILE)
    remarks = (*remarks_on_plan(config), *remarks_on_checks(manifest, plans))
    if config.keras is not None:
        remarks += check_run(config.keras, manifest)
    with temporary_folder("bench") as scratch:
        started_s = time.monotonic()
        created_utc = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        trained_on = hashes_trained_on(config.keras) if config.keras else None
        # Before the images are decoded: the record describes the machine without the load of this program.
        machine = describe_machine()
        images = prepare_images(choose_images(config), manifest.labels, manifest.input, trained_on, scratch)
        measurements, board = _measure(config.settings, plans, images, scratch)
        duration_s = time.monotonic() - started_s
    subjects, invalid = assemble(measurements, images, manifest, config.settings), invalid_reasons(board)
    report = Report(
        tool=f"edgekit {__version__}",
        created_utc=created_utc,
        duration_s=duration_s,
        command=config.command,
        settings=config.settings,
        model_name=manifest.model_name,
        bundle=str(config.bundle),
        bundle_manifest_sha256=file_sha256(config.bundle / MANIFEST_FILE),
        keras_run=str(config.keras) if config.keras else None,
        keras_sha256=next((plan.sha256 for plan in plans if plan.is_keras), None),
        machine=machine,
        board=board,
        data=images.record,
        subjects=subjects,
        invalid=invalid,
        remarks=remarks,
        verdict=verdict(subjects, invalid, machine),
    )
    done = [item for item in measurements if item.error is None]
    latencies_ms = {
        one.plan.name: [[ns / NS_PER_MS for ns in burst.latencies_ns] for burst in one.bursts] for one in done
    }
    answers = _answers(done, images, manifest)
    with atomic_directory(config.out, marker=REPORT_FILE, overwrite=config.overwrite) as folder:
        write_report(folder, report, latencies_ms, answers, manifest.input)
    return report


def remember_measured(report: Report, manifest: Manifest) -> Variant | None:
    """Let ``edge-run`` take the variant that was fastest here, from now on.

    Returns:
        The variant; None if the report is not conclusive, or if nothing can be remembered on this machine.
    """
    variants = {variant.value: variant for variant in Variant}
    streams = {
        variants[subject.name]: subject.performance.single_stream
        for subject in report.subjects
        if subject.name in variants and subject.performance
    }
    # An unmeasured variant might have been faster, several threads are not used for a folder, a hot board slows down
    # the later measurements, and on a busy machine the order is random.
    if report.settings.threads != 1 or not set(candidates(manifest)) <= set(streams) or report.invalid:
        return None
    if any((stream.waiting or 0.0) > _DISTURBED_WAITING for stream in streams.values()):
        return None
    try:
        return remember_fastest(manifest, {variant: stream.latency.p50_ms for variant, stream in streams.items()})
    except OutputError:
        return None


def _measure(
    settings: Settings, plans: Sequence[SubjectPlan], images: EvaluationSet, scratch: Path
) -> tuple[list[Measurement], BoardWatch]:
    with contextlib.ExitStack() as stack:
        meter = open_meter(settings.power)
        if meter:
            stack.enter_context(meter)
        watcher = stack.enter_context(BoardWatcher(meter=meter))
        progress = stack.enter_context(progress_bar("measuring", steps(plans, settings)))
        measurements = measure_all(plans, settings, images, scratch, progress, meter)
    return measurements, watcher.watch


def _answers(done: Sequence[Measurement], images: EvaluationSet, manifest: Manifest) -> Answers:
    return Answers(
        files=tuple(str(sample.path) for sample in images.samples),
        truth=tuple(sample.label for sample in images.samples),
        by_subject={
            item.plan.name: [manifest.labels[index] for index in top1(item.probabilities, manifest.output)]
            for item in done
            if item.probabilities is not None
        },
    )
