"""Measure one subject: its cold starts, then its figures, each in a fresh child process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.evaluation import EvaluationSet
from benchmarks.measuring.processes import ask_child
from benchmarks.measuring.protocol import ChildAnswer, ChildSpec, Timeline
from benchmarks.plan import BenchConfig, SubjectPlan
from benchmarks.report.record import ColdStart
from benchmarks.statistics import percentile
from edge_runtime.cli_support import Progress
from edge_runtime.errors import EdgeKitError

_NS_PER_MS = 1e6


@dataclass(frozen=True)
class Measurement:
    """What was seen of one subject.

    Attributes:
        plan: The subject.
        error: Why it was not measured, or None; the fields below are then empty.
        runtime: Runtime and version.
        tensorflow_loaded: Whether TensorFlow, Keras or JAX was in the process.
        cold_start: Of fresh processes.
        latencies_ns: One per timed call.
        waiting: Share of the timed calls spent waiting for a processor, None where unknown.
        peak_memory_bytes: Highest resident memory, None where unknown.
        top1: Label index of the answer for each picture.
    """

    plan: SubjectPlan
    error: str | None = None
    runtime: str = ""
    tensorflow_loaded: bool = False
    cold_start: ColdStart | None = None
    latencies_ns: tuple[int, ...] = ()
    waiting: float | None = None
    peak_memory_bytes: int | None = None
    top1: tuple[int, ...] = ()


def measure_subject(
    plan: SubjectPlan, config: BenchConfig, pictures: EvaluationSet, folder: Path, progress: Progress
) -> Measurement:
    """Measure one subject; a failure is recorded, never raised.

    Args:
        plan: The subject.
        config: Threads and timeout.
        pictures: What it is measured on.
        folder: Scratch folder.
        progress: Called with 1 after each child process.
    """
    starts: list[tuple[int, Timeline]] = []
    answer: ChildAnswer | None = None
    top1_file = folder / f"top1-{plan.name}.npy"
    for index in range(plan.starts):
        is_last = index == plan.starts - 1
        spec = ChildSpec(
            model=str(plan.model),
            variant=plan.variant,
            threads=config.threads,
            picture=str(pictures.samples[0].path.resolve()),
            images=str(pictures.images) if is_last else None,
            top1=str(top1_file),
            invocations=plan.invocations,
            answer=str(folder / "answer.json"),
        )
        try:
            answer, spawned_ns = ask_child(plan.module, spec, folder, config.timeout_s)
        except EdgeKitError as error:
            progress(plan.starts - index)
            return Measurement(plan, error=str(error))
        starts.append((spawned_ns, answer.timeline))
        progress(1)
    if answer is None or answer.measured is None:
        return Measurement(plan, error="its process gave no figures")
    return Measurement(
        plan,
        runtime=answer.runtime,
        tensorflow_loaded=answer.tensorflow_loaded,
        cold_start=summarize_starts(starts),
        latencies_ns=answer.measured.latencies_ns,
        waiting=answer.measured.waiting,
        peak_memory_bytes=answer.measured.peak_memory_bytes,
        top1=tuple(int(label) for label in np.load(top1_file)),
    )


def summarize_starts(starts: Sequence[tuple[int, Timeline]]) -> ColdStart:
    """Summarise cold starts: (moment of making the process, the child's moments), all in nanoseconds of one clock."""
    totals_ns = [timeline.answered_ns - spawned_ns for spawned_ns, timeline in starts]
    median_ns = int(percentile(totals_ns, 50))
    spawned_ns, timeline = starts[totals_ns.index(median_ns)]
    return ColdStart(
        samples_ms=tuple(total / _NS_PER_MS for total in totals_ns),
        median_ms=median_ns / _NS_PER_MS,
        interpreter_ms=(timeline.started_ns - spawned_ns) / _NS_PER_MS,
        import_ms=(timeline.imported_ns - timeline.started_ns) / _NS_PER_MS,
        load_ms=(timeline.loaded_ns - timeline.imported_ns) / _NS_PER_MS,
        first_ms=(timeline.answered_ns - timeline.loaded_ns) / _NS_PER_MS,
    )
