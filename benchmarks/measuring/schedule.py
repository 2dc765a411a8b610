"""Schedule of a benchmark: sessions, interleaved rounds and repeated cold starts.

Each session starts every model in a fresh process. All of them stay open, but only one works: in each round every model
answers one burst, in an order drawn by chance, so a machine that slows down slows them all.
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
    MeasuredSubject,
    ask_offline,
    ask_once,
    needs_wide_predict,
    sweep_threads,
)
from benchmarks.measuring.session import Measurement
from benchmarks.plan import KERAS_PREDICT, SubjectPlan
from benchmarks.settings import Scenario, Settings
from edge_runtime.platform.board import memory_available_bytes
from edge_runtime.progress import Progress

if TYPE_CHECKING:
    from benchmarks.resources.power import Meter


_ALL_IN_TURN = "all models in turn"


def steps(plans: Sequence[SubjectPlan], settings: Settings) -> int:
    """How many pieces of work `measure_all` counts in ``progress``."""
    return sum(pace.steps_of(plan, settings) for plan in plans)


def measure_all(
    plans: Sequence[SubjectPlan],
    settings: Settings,
    images: EvaluationSet,
    folder: Path,
    progress: Progress,
    meter: Meter | None = None,
) -> list[Measurement]:
    """Measure all subjects; a failure of one is recorded, never raised, and the others go on.

    Args:
        plans: The subjects.
        settings: How they are measured.
        images: What they are measured on.
        folder: Scratch folder.
        progress: Called with the number of pieces of work that are over; `steps` tells how many there are.
        meter: Tells the energy of the single-stream bursts.

    Returns:
        One measurement a subject, in the same order.
    """
    conditions = Conditions(settings, images, folder)
    entrants = [MeasuredSubject(plan, pace.steps_of(plan, settings), progress) for plan in plans]
    try:
        for entrant in entrants:
            entrant.measurement.not_measured += pace.left_out(entrant.plan, settings)
        _start_more(entrants, conditions)
        groups = _groups(entrants, settings)
        for session in range(settings.sessions):
            for group in groups:
                _run_session(group, conditions, meter, session)
        for entrant in conditions.shuffled([one for one in entrants if pace.is_swept(one.plan, settings)]):
            threads = entrant.measurement.threads
            entrant.may(Scenario.THREADS.value, partial(sweep_threads, conditions=conditions), threads.clear)
    finally:
        for entrant in entrants:
            entrant.leave()
    for entrant in entrants:
        _note_few_queries(entrant, settings)
        entrant.finish()
    return [entrant.measurement for entrant in entrants]


def _start_more(entrants: Sequence[MeasuredSubject], conditions: Conditions) -> None:
    """The cold starts beside those of the sessions: short-lived processes, alone, in an order drawn by chance."""

    def start(entrant: MeasuredSubject) -> None:
        with conditions.open(entrant.plan) as session:
            entrant.measurement.starts.append(session.start)

    due = [entrant for entrant in entrants for _ in range(pace.extra_starts(entrant.plan, conditions.settings))]
    for entrant in conditions.shuffled(due):
        entrant.must(start)


def _groups(entrants: Sequence[MeasuredSubject], settings: Settings) -> list[list[MeasuredSubject]]:
    """Subjects whose processes fit into memory together; where that is not all of them, this is noted."""
    available = memory_available_bytes()
    has_second = settings.wants(Scenario.OFFLINE) and needs_wide_predict(settings.threads)
    divided = pace.groups([entrant.plan for entrant in entrants], available, has_second_predict=has_second)
    if len(divided) > 1:
        for entrant in entrants:
            entrant.note(
                _ALL_IN_TURN,
                f"{(available or 0) / 1e9:.1f} GB of free memory do not hold all models at once, so they were measured "
                f"in {len(divided)} groups one after the other; ratios between groups compare different minutes",
            )
    by_name = {entrant.plan.name: entrant for entrant in entrants}
    return [[by_name[plan.name] for plan in plans] for plans in divided]


def _run_session(group: Sequence[MeasuredSubject], conditions: Conditions, meter: Meter | None, session: int) -> None:
    """Start each subject, let the bursts go round, and ask the rest.

    Memory is asked in the last session, a folder in each, all else in the first. Memory comes right after the bursts,
    because answers, folders and cameras would be counted as the model's.
    """
    settings = conditions.settings

    def enter(entrant: MeasuredSubject) -> None:
        entrant.enter(conditions.open(entrant.plan))

    try:
        for entrant in conditions.shuffled(group):
            entrant.must(enter)
        for round_index in range(settings.rounds):
            for entrant in conditions.shuffled(group):
                request = pace.burst(entrant.plan, settings, conditions.images, is_first=round_index == 0)
                entrant.must(partial(_ask_burst, request=request, meter=meter))
        if session == settings.sessions - 1:
            for entrant in group:
                entrant.must(_ask_memory)
        if session == 0:
            ask_once(group, conditions)
        ask_offline(group, conditions, session)
    finally:
        for entrant in group:
            entrant.leave()


def _ask_burst(entrant: MeasuredSubject, request: AskBurst, meter: Meter | None) -> None:
    measurement = entrant.measurement
    if meter is None:
        measurement.bursts.append(entrant.session.ask(request, Burst))
        return
    # The energy of the warm-up is not that of the timed calls.
    entrant.session.ask(AskBurst(request.images, request.warm_up_s, 0.0, 0), Burst)
    with meter.span() as span:
        burst = entrant.session.ask(AskBurst(request.images, 0.0, request.duration_s, request.queries), Burst)
    measurement.bursts.append(burst)
    if span.energy_mj is not None:
        energy_mj, calls = measurement.energy_mj or (0.0, 0)
        measurement.energy_mj = energy_mj + span.energy_mj, calls + len(burst.latencies_ns)


def _ask_memory(entrant: MeasuredSubject) -> None:
    entrant.measurement.memory = entrant.session.ask(AskMemory(), Memory)


def _note_few_queries(entrant: MeasuredSubject, settings: Settings) -> None:
    calls = sum(len(burst.latencies_ns) for burst in entrant.measurement.bursts)
    if entrant.is_in and entrant.plan.name == KERAS_PREDICT and calls < settings.min_queries:
        entrant.note(
            f"{settings.min_queries} single-stream calls",
            f"a call of model.predict takes so long that it was timed for {settings.min_duration_s:g} s, "
            f"which is {calls} calls",
        )
