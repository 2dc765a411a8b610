"""What each subject is asked beside the single stream: answers, stages, a folder, a camera, thread counts."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from functools import partial

import numpy as np

from benchmarks.measuring import pace
from benchmarks.measuring.conditions import Conditions
from benchmarks.measuring.entrant import Entrant
from benchmarks.measuring.protocol import (
    Answered,
    AskAnswers,
    AskCamera,
    AskOffline,
    AskStages,
    Burst,
    CameraTrace,
    OfflineRun,
    StageTimes,
)
from benchmarks.measuring.session import Session
from benchmarks.plan import KERAS_PREDICT
from benchmarks.settings import Scenario
from edge_runtime.cores import core_count
from edge_runtime.errors import EngineError


def ask_once(entrants: Sequence[Entrant], conditions: Conditions) -> None:
    """Ask subjects with an open process for answers, stages and a camera, as far as the settings want them."""
    settings = conditions.settings
    _ask_all_answers([entrant for entrant in entrants if entrant.is_in], conditions)
    if settings.wants(Scenario.STAGES):
        for entrant in conditions.shuffled(entrants):
            entrant.may(Scenario.STAGES.value, partial(_ask_stages, conditions=conditions))
    if settings.wants(Scenario.CAMERA):
        for entrant in conditions.shuffled(entrants):
            entrant.may(Scenario.CAMERA.value, partial(_ask_camera, conditions=conditions))


def ask_offline(entrants: Sequence[Entrant], conditions: Conditions, session: int) -> None:
    """Let subjects with an open process classify a folder, burst by burst in turn, as often as it is due in a session.

    Args:
        entrants: The subjects.
        conditions: What they are measured on.
        session: Which session, the first being 0.
    """
    request = AskOffline(conditions.paths, core_count(), pace.OFFLINE_S)
    bursts = {
        entrant.plan.name: pace.offline_bursts(entrant.plan, conditions.settings, session) for entrant in entrants
    }
    with ExitStack() as stack:
        sessions: dict[str, Session] = {}

        def session_of(entrant: Entrant) -> Session:
            if entrant.plan.name != KERAS_PREDICT or not needs_wide_predict(conditions.settings.threads):
                return entrant.session
            # The exports get an interpreter a core; Keras gets as many threads, so that nobody can say it was kept from
            # the cores.
            name = entrant.plan.name
            if name not in sessions:
                sessions[name] = stack.enter_context(conditions.open(entrant.plan, core_count()))
            return sessions[name]

        def work(entrant: Entrant) -> None:
            entrant.measurement.offline.append(session_of(entrant).ask(request, OfflineRun))

        for burst in range(max(bursts.values(), default=0)):
            for entrant in conditions.shuffled([one for one in entrants if burst < bursts[one.plan.name]]):
                entrant.may(Scenario.OFFLINE.value, work, entrant.measurement.offline.clear)


def sweep_threads(entrant: Entrant, conditions: Conditions) -> None:
    """Single stream with each thread count, in a fresh process each, burst by burst in turn.

    Raises:
        EngineError: A process failed.
    """
    counts = conditions.settings.sweep_threads
    entrant.measurement.threads.update({count: [] for count in counts})
    with ExitStack() as stack:
        sessions = {count: stack.enter_context(conditions.open(entrant.plan, count)) for count in counts}
        for round_index in range(pace.SWEEP_ROUNDS):
            request = pace.sweep_burst(conditions.images, is_first=round_index == 0)
            for count in conditions.shuffled_counts(counts):
                entrant.measurement.threads[count].append(sessions[count].ask(request, Burst))


def needs_wide_predict(settings_threads: int) -> bool:
    """Whether ``keras-predict`` needs a process of its own for the folder: one that may use all cores."""
    return settings_threads < core_count()


def _ask_all_answers(entrants: Sequence[Entrant], conditions: Conditions) -> None:
    """Let as many subjects as there are cores answer at one time: nothing of it is timed, and slow ones take long."""
    with ThreadPoolExecutor(core_count()) as pool:
        futures = {entrant.plan.name: pool.submit(_ask_answers, entrant, conditions) for entrant in entrants}
        try:
            wait(futures.values())
        except BaseException:  # Ctrl-C must not wait for the answers
            pool.shutdown(wait=False, cancel_futures=True)
            for entrant in entrants:
                entrant.session.kill()
            raise
    for entrant in entrants:
        entrant.must(lambda one: futures[one.plan.name].result())


def _ask_answers(entrant: Entrant, conditions: Conditions) -> None:
    file = conditions.folder / f"answers-{entrant.plan.name}.npy"
    answered = entrant.session.ask(AskAnswers(conditions.images, str(file)), Answered)
    probabilities = np.load(file, allow_pickle=False)
    if probabilities.ndim != 2 or len(probabilities) != conditions.count:
        raise EngineError(f"expected an answer for each of {conditions.count} pictures, got {probabilities.shape}")
    if not np.isfinite(probabilities).all():
        wrong = int((~np.isfinite(probabilities).all(axis=1)).sum())
        raise EngineError(f"expected probabilities, got no numbers (NaN) for {wrong} of {conditions.count} pictures")
    entrant.measurement.tensorflow_loaded = answered.tensorflow_loaded
    entrant.measurement.probabilities = probabilities.astype(np.float32, copy=False)


def _ask_stages(entrant: Entrant, conditions: Conditions) -> None:
    images = pace.stage_pictures(entrant.plan, conditions.settings)
    entrant.measurement.stages = entrant.session.ask(AskStages(conditions.paths, images), StageTimes)


def _ask_camera(entrant: Entrant, conditions: Conditions) -> None:
    request = AskCamera(conditions.paths, conditions.settings.camera_fps, pace.CAMERA_S)
    entrant.measurement.camera = entrant.session.ask(request, CameraTrace)
