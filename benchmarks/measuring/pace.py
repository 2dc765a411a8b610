"""Length and number of the measurements: bursts, warm-up, sweeps and groups of models that fit into memory."""

from __future__ import annotations

import math
from collections.abc import Sequence

from benchmarks.measuring.protocol import AskBurst
from benchmarks.plan import KERAS_FUNCTION, KERAS_PREDICT, SubjectPlan
from benchmarks.records import NotMeasured
from benchmarks.settings import Scenario, Settings

OFFLINE_S = 0.5
CAMERA_S = 1.5
SWEEP_ROUNDS = 5

_OFFLINE_BURSTS = 4
_WARM_UP_S = 0.04
_FIRST_WARM_UP_S = 0.2  # of a process: long enough for a frequency governor to notice the load
_PREDICT_QUERIES = 2
_SWEEP_BURST_S = 0.1
_SWEEP_QUERIES = 10
# Image files for the stages, by (quick, Keras): a Keras call can take a tenth of a second.
_STAGE_IMAGES = {(False, False): 50, (False, True): 20, (True, False): 20, (True, True): 8}
_KERAS_BYTES = 1_200_000_000
_ARTIFACT_BYTES = 200_000_000
_USABLE = 0.8  # of the free memory; the rest is for the page cache, which holds images and models


def burst(plan: SubjectPlan, settings: Settings, images: str, *, is_first: bool) -> AskBurst:
    """Make one single-stream burst; all bursts of all sessions reach the least duration and number of calls.

    ``model.predict`` takes tens of milliseconds per call on any machine, so reaching the number would take minutes: it
    stops at the duration.
    """
    bursts = settings.sessions * settings.rounds
    queries = _PREDICT_QUERIES if plan.name == KERAS_PREDICT else math.ceil(settings.min_queries / bursts)
    return AskBurst(images, _FIRST_WARM_UP_S if is_first else _WARM_UP_S, settings.min_duration_s / bursts, queries)


def sweep_burst(images: str, *, is_first: bool) -> AskBurst:
    """Make one burst of a thread count."""
    return AskBurst(images, _FIRST_WARM_UP_S if is_first else _WARM_UP_S, _SWEEP_BURST_S, _SWEEP_QUERIES)


def stage_images(plan: SubjectPlan, settings: Settings) -> int:
    """Return the number of image files over which the stages are timed."""
    return _STAGE_IMAGES[settings.quick, plan.is_keras]


def offline_bursts(plan: SubjectPlan, settings: Settings, session: int) -> int:
    """Return the number of folder runs in one session, the first session being 0.

    They are spread over the sessions, because the speed of all cores together drifts over minutes. ``keras-predict``
    does all of its runs in the first: it needs a separate process for them, which takes many seconds to start.
    """
    if not settings.wants(Scenario.OFFLINE):
        return 0
    if plan.name == KERAS_PREDICT:
        return 0 if session else _OFFLINE_BURSTS
    return math.ceil(_OFFLINE_BURSTS / settings.sessions)


def extra_starts(plan: SubjectPlan, settings: Settings) -> int:
    """Return the number of cold starts besides those of the sessions; 0 for Keras, which takes seconds per start."""
    return 0 if plan.is_keras else max(0, settings.starts - settings.sessions)


def is_swept(plan: SubjectPlan, settings: Settings) -> bool:
    """Tell whether a subject is run with several thread counts."""
    return settings.wants(Scenario.THREADS) and bool(settings.sweep_threads) and not plan.is_keras


def steps_of(plan: SubjectPlan, settings: Settings) -> int:
    """Count the pieces of work on one subject: starts, bursts and the other requests."""
    in_sessions = settings.sessions * (1 + settings.rounds)
    memory_and_answers = 2
    once = sum(settings.wants(scenario) for scenario in (Scenario.STAGES, Scenario.CAMERA))
    offline = sum(offline_bursts(plan, settings, session) for session in range(settings.sessions))
    return extra_starts(plan, settings) + in_sessions + memory_and_answers + once + offline + is_swept(plan, settings)


def left_out(plan: SubjectPlan, settings: Settings) -> list[NotMeasured]:
    """List the scenarios that the settings leave out or that do not apply, with the reason."""
    reason = "left out by --quick" if settings.quick else "not among the requested scenarios"
    found = [NotMeasured(scenario.value, reason) for scenario in Scenario if not settings.wants(scenario)]
    if settings.wants(Scenario.THREADS) and not is_swept(plan, settings):
        keras = "thread counts are swept for exported models only"
        no_counts = "no thread counts were given, or this machine has a single core"
        found.append(NotMeasured(Scenario.THREADS.value, keras if plan.is_keras else no_counts))
    return found


def groups(
    plans: Sequence[SubjectPlan], available_bytes: int | None, *, has_second_predict: bool
) -> list[list[SubjectPlan]]:
    """Divide the subjects so that the processes of each group fit into memory together.

    ``keras-function``, the reference of all ratios, comes into the first group with as many others as fit. Unknown
    memory gives one group. ``has_second_predict`` counts a second process of ``keras-predict``, for the folder.
    """
    room = math.inf if available_bytes is None else available_bytes * _USABLE
    found: list[tuple[list[SubjectPlan], int]] = []
    for plan in sorted(plans, key=lambda plan: 0 if plan.name == KERAS_FUNCTION else 2 if plan.is_keras else 1):
        need = _KERAS_BYTES if plan.is_keras else _ARTIFACT_BYTES
        if plan.name == KERAS_PREDICT and has_second_predict:
            need *= 2
        for index, (members, taken) in enumerate(found):
            if taken + need <= room:
                found[index] = ([*members, plan], taken + need)
                break
        else:
            found.append(([plan], need))
    return [members for members, _taken in found]
