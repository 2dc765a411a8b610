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
_STAGE_IMAGES = 50
_KERAS_STAGE_IMAGES = 20
_QUICK_STAGE_IMAGES = 20
_QUICK_KERAS_STAGE_IMAGES = 8
_KERAS_BYTES = 1_200_000_000
_ARTIFACT_BYTES = 200_000_000
_USABLE = 0.8  # of the free memory; the rest is for the page cache, which holds images and models


def burst(plan: SubjectPlan, settings: Settings, images: str, *, is_first: bool) -> AskBurst:
    """One single-stream burst, so long that all bursts of all sessions reach the least duration and number of calls.

    ``model.predict`` takes tens of milliseconds a call on any machine, so that the number would take minutes: it stops
    at the duration.
    """
    bursts = settings.sessions * settings.rounds
    queries = _PREDICT_QUERIES if plan.name == KERAS_PREDICT else math.ceil(settings.min_queries / bursts)
    return AskBurst(images, _FIRST_WARM_UP_S if is_first else _WARM_UP_S, settings.min_duration_s / bursts, queries)


def sweep_burst(images: str, *, is_first: bool) -> AskBurst:
    """One burst of a thread count."""
    return AskBurst(images, _FIRST_WARM_UP_S if is_first else _WARM_UP_S, _SWEEP_BURST_S, _SWEEP_QUERIES)


def stage_images(plan: SubjectPlan, settings: Settings) -> int:
    """Over how many image files the stages are timed; fewer with Keras, whose calls can take a tenth of a second."""
    if settings.quick:
        return _QUICK_KERAS_STAGE_IMAGES if plan.is_keras else _QUICK_STAGE_IMAGES
    return _KERAS_STAGE_IMAGES if plan.is_keras else _STAGE_IMAGES


def offline_bursts(plan: SubjectPlan, settings: Settings, session: int) -> int:
    """How often a folder is classified in one session, the first being 0.

    They are spread over the sessions, because what all cores do together drifts by minutes. ``keras-predict`` does its
    share in the first: it needs a process of its own for them, which takes many seconds to start.
    """
    if not settings.wants(Scenario.OFFLINE):
        return 0
    if plan.name == KERAS_PREDICT:
        return 0 if session else _OFFLINE_BURSTS
    return math.ceil(_OFFLINE_BURSTS / settings.sessions)


def extra_starts(plan: SubjectPlan, settings: Settings) -> int:
    """Cold starts besides those of the sessions; none of Keras, which takes seconds a start."""
    return 0 if plan.is_keras else max(0, settings.starts - settings.sessions)


def is_swept(plan: SubjectPlan, settings: Settings) -> bool:
    """Whether it is run with several thread counts."""
    return settings.wants(Scenario.THREADS) and bool(settings.sweep_threads) and not plan.is_keras


def steps_of(plan: SubjectPlan, settings: Settings) -> int:
    """Pieces of work on one subject: starts, bursts, and each of the other questions."""
    in_sessions = settings.sessions * (1 + settings.rounds)
    once = (Scenario.STAGES, Scenario.CAMERA)
    memory = answers = 1
    asked = memory + answers + sum(settings.wants(scenario) for scenario in once)
    offline = sum(offline_bursts(plan, settings, session) for session in range(settings.sessions))
    return extra_starts(plan, settings) + in_sessions + asked + offline + is_swept(plan, settings)


def left_out(plan: SubjectPlan, settings: Settings) -> list[NotMeasured]:
    """What the settings leave out, or what does not apply, with the reason."""
    reason = "left out by --quick" if settings.quick else "not among the scenarios that were asked for"
    found = [NotMeasured(scenario.value, reason) for scenario in Scenario if not settings.wants(scenario)]
    if settings.wants(Scenario.THREADS) and not is_swept(plan, settings):
        no_counts = "no thread counts were given, or this machine has a single core"
        found.append(
            NotMeasured(
                Scenario.THREADS.value,
                "thread counts are swept for exported models only" if plan.is_keras else no_counts,
            )
        )
    return found


def groups(
    plans: Sequence[SubjectPlan], available_bytes: int | None, *, has_second_predict: bool
) -> list[list[SubjectPlan]]:
    """Divide the subjects so that the processes of each group fit into memory together.

    ``keras-function``, to which everything is compared, comes into the first group with as many others as fit.

    Args:
        plans: The subjects.
        available_bytes: Free memory; None where unknown, and then one group is taken.
        has_second_predict: Whether ``keras-predict`` gets a second process for the folder.
    """
    room = math.inf if available_bytes is None else available_bytes * _USABLE
    found: list[tuple[list[SubjectPlan], int]] = []
    for plan in sorted(plans, key=_rank):
        need = _need_bytes(plan, has_second_predict=has_second_predict)
        for index, (members, taken) in enumerate(found):
            if taken + need <= room:
                found[index] = ([*members, plan], taken + need)
                break
        else:
            found.append(([plan], need))
    return [members for members, _taken in found]


def _rank(plan: SubjectPlan) -> int:
    if plan.name == KERAS_FUNCTION:
        return 0
    return 2 if plan.is_keras else 1


def _need_bytes(plan: SubjectPlan, *, has_second_predict: bool) -> int:
    if not plan.is_keras:
        return _ARTIFACT_BYTES
    return _KERAS_BYTES * (2 if plan.name == KERAS_PREDICT and has_second_predict else 1)
