"""Schedule of a benchmark: sessions, interleaved rounds and repeated cold starts.

Each session starts every model in a fresh process. All processes stay open, but only one works: in each round every
model answers one burst, in random order, so a machine that slows down slows all models alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.evaluation import EvaluationSet
from benchmarks.measuring import pace
from benchmarks.measuring.protocol import AskBurst, AskMemory, Burst, Memory
from benchmarks.measuring.scenarios import (
    Conditions,
    Measurement,
    ask_offline,
    ask_once,
    needs_wide_predict,
    sweep_threads,
)
from benchmarks.plan import KERAS_PREDICT, SubjectPlan
from benchmarks.settings import Scenario, Settings
from edge_runtime.platform.board import memory_available_bytes
from edge_runtime.progress import Progress

if TYPE_CHECKING:
    from benchmarks.resources.power import Meter

_ALL_IN_TURN = "all models in turn"


def steps(plans: Sequence[SubjectPlan], settings: Settings) -> int:
    """Count the pieces of work that `measure_all` reports to ``progress``."""
    return sum(pace.steps_of(plan, settings) for plan in plans)


def measure_all(
    plans: Sequence[SubjectPlan],
    settings: Settings,
    images: EvaluationSet,
    folder: Path,
    progress: Progress,
    meter: Meter | None = None,
) -> list[Measurement]:
    """Measure all subjects in their order; a failure of one is recorded, never raised, and does not stop the others.

    Args:
        plans: Subjects to measure.
        settings: Settings of the benchmark.
        images: Images of the benchmark.
        folder: Scratch folder of the children.
        progress: Function called with the number of pieces of work that are over; see `steps`.
        meter: Power meter for the energy of the single-stream bursts, or None.
    """
    conditions = Conditions(settings, images, folder)
    subjects = [Measurement(plan, pace.steps_of(plan, settings), progress) for plan in plans]
    try:
        for subject in subjects:
            subject.not_measured += pace.left_out(subject.plan, settings)
        _start_more(subjects, conditions)
        groups = _groups(subjects, settings)
        for session in range(settings.sessions):
            for group in groups:
                _run_session(group, conditions, meter, session)
        for subject in conditions.shuffled([one for one in subjects if pace.is_swept(one.plan, settings)]):
            work = partial(sweep_threads, conditions=conditions)
            subject.may(Scenario.THREADS.value, work, subject.threads.clear)
    finally:
        for subject in subjects:
            subject.leave()
    for subject in subjects:
        _note_few_queries(subject, settings)
        subject.finish()
    return subjects


def _start_more(subjects: Sequence[Measurement], conditions: Conditions) -> None:
    """Time the cold starts besides those of the sessions: short-lived processes, one at a time, in random order."""

    def start(subject: Measurement) -> None:
        with conditions.open(subject.plan) as session:
            subject.starts.append(session.start)

    due = [subject for subject in subjects for _ in range(pace.extra_starts(subject.plan, conditions.settings))]
    for subject in conditions.shuffled(due):
        subject.must(start)


def _groups(subjects: Sequence[Measurement], settings: Settings) -> list[list[Measurement]]:
    """Group the subjects whose processes fit into memory together; several groups are noted."""
    available = memory_available_bytes()
    has_second = settings.wants(Scenario.OFFLINE) and needs_wide_predict(settings.threads)
    divided = pace.groups([subject.plan for subject in subjects], available, has_second_predict=has_second)
    if len(divided) > 1:
        for subject in subjects:
            subject.note(
                _ALL_IN_TURN,
                f"{(available or 0) / 1e9:.1f} GB of free memory do not hold all models at once, so they were measured "
                f"in {len(divided)} groups one after the other; ratios between groups compare different minutes",
            )
    by_name = {subject.plan.name: subject for subject in subjects}
    return [[by_name[plan.name] for plan in plans] for plans in divided]


def _run_session(group: Sequence[Measurement], conditions: Conditions, meter: Meter | None, session: int) -> None:
    """Start each subject, interleave the bursts, then do the other scenarios.

    Memory is read in the last session, a folder runs in each, all else in the first. Memory comes right after the
    bursts, because answers, folders and cameras would be counted as the model's.
    """
    settings = conditions.settings

    def read_memory(subject: Measurement) -> None:
        subject.memory = subject.session.ask(AskMemory(), Memory)

    try:
        for subject in conditions.shuffled(group):
            subject.must(lambda one: one.enter(conditions.open(one.plan)))
        for round_index in range(settings.rounds):
            for subject in conditions.shuffled(group):
                request = pace.burst(subject.plan, settings, conditions.images, is_first=round_index == 0)
                subject.must(partial(_ask_burst, request=request, meter=meter))
        if session == settings.sessions - 1:
            for subject in group:
                subject.must(read_memory)
        if session == 0:
            ask_once(group, conditions)
        ask_offline(group, conditions, session)
    finally:
        for subject in group:
            subject.leave()


def _ask_burst(subject: Measurement, request: AskBurst, meter: Meter | None) -> None:
    if meter is None:
        subject.bursts.append(subject.session.ask(request, Burst))
        return
    # The energy of the warm-up is not counted with that of the timed calls.
    subject.session.ask(AskBurst(request.images, request.warm_up_s, 0.0, 0), Burst)
    with meter.span() as span:
        burst = subject.session.ask(AskBurst(request.images, 0.0, request.duration_s, request.queries), Burst)
    subject.bursts.append(burst)
    if span.energy_mj is not None:
        energy_mj, calls = subject.energy_mj or (0.0, 0)
        subject.energy_mj = energy_mj + span.energy_mj, calls + len(burst.latencies_ns)


def _note_few_queries(subject: Measurement, settings: Settings) -> None:
    calls = sum(len(burst.latencies_ns) for burst in subject.bursts)
    if subject.error is None and subject.plan.name == KERAS_PREDICT and calls < settings.min_queries:
        subject.note(
            f"{settings.min_queries} single-stream calls",
            f"a call of model.predict takes so long that it was timed for {settings.min_duration_s:g} s, "
            f"which is {calls} calls",
        )
