"""Differences in latency, cold start, throughput and size, relative to a reference model."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.comparison.record import Difference, Limits, Outcome, Unit
from benchmarks.records import ColdStart, Offline, Performance, SubjectResult
from benchmarks.statistics import Interval, Shift, intervals_apart, percentile, shift_between

_ROUNDS = "the rounds' medians: Hodges' and Lehmann's shift, Mann-Whitney test"
_THRESHOLD = "no test: what matters is whether the limit is passed"
_STARTS = "few starts: the median passes the limit, and every start of one is slower than every start of the other"
_OFFLINE = "the median passes the limit, and the 95 % intervals do not touch"
_TOLERANCE = 1e-9
_LEAST_STARTS = 3
_DISTURBED = 2.0
"""How many times as wide an interval may become by dividing by the reference; sqrt(2) if both are equally unsteady."""


@dataclass(frozen=True)
class Reference:
    """A model that shows how fast the machine was.

    Attributes:
        name: Of the subject.
        before: Median of each round in the first report, in ms.
        after: The same in the second.
        drift: How much longer it took in the second, as a share; 0.1 is 10 %.
    """

    name: str
    before: tuple[float, ...]
    after: tuple[float, ...]
    drift: float


def find_reference(name: str, before: SubjectResult | None, after: SubjectResult | None) -> Reference | str:
    """The reference, or a reason, as the end of a sentence, why it cannot be one: then times stand for themselves."""
    if before is None or after is None or before.performance is None or after.performance is None:
        return f"{name} was not measured in both reports"
    first, second = before.performance, after.performance
    if not before.sha256 or before.sha256 != after.sha256:
        return f"{name} is not the same model file in both reports"
    if (first.runtime, first.delegate) != (second.runtime, second.delegate):
        return f"{name} ran on {_ran_on(first)} and then on {_ran_on(second)}"
    bursts = first.single_stream.burst_p50_ms, second.single_stream.burst_p50_ms
    return Reference(name, *bursts, _as_share(_log_shift(*bursts).estimate))


def folder_drift(before: SubjectResult | None, after: SubjectResult | None) -> float | None:
    """How much longer one model took for a folder in the second report, as a share; None where it is not known.

    A folder takes all cores at once. What they give together drifts more than what one gives, and on its own.
    """
    found = _of_one_file(before, after)
    if found is None or found[0].offline is None or found[1].offline is None:
        return None
    return found[0].offline.images_per_s / found[1].offline.images_per_s - 1


def start_drift(before: SubjectResult | None, after: SubjectResult | None) -> float | None:
    """How much longer one model took for a cold start in the second report, as a share; None where it is not known."""
    found = _of_one_file(before, after)
    return found[1].cold_start.median_ms / found[0].cold_start.median_ms - 1 if found else None


def is_disturbed(reference: Reference, performances: Sequence[tuple[Performance, Performance]], limits: Limits) -> bool:
    """Whether something slowed the reference alone, so that dividing by it makes latencies less certain, not more.

    Only the width of intervals decides, never what they say: else the choice would favour an answer.
    """
    widths = []
    for before, after in performances:
        plain = _log_shift(before.single_stream.burst_p50_ms, after.single_stream.burst_p50_ms).interval
        relative = _log_shift(*_relative(before, after, reference)).interval
        if plain is not None and relative is not None:
            widths.append((relative.high - relative.low, plain.high - plain.low))
    if not widths:
        return False
    divided, alone = (statistics.median(column) for column in zip(*widths, strict=True))
    return divided > max(_DISTURBED * alone, math.log1p(limits.max_slowdown))


def latency_differences(
    before: Performance, after: Performance, reference: Reference | None, limits: Limits
) -> tuple[tuple[Difference, ...], float]:
    """p50, and before it p50 in units of the reference where there is one; the first is the one to judge.

    Not yet judged (`Outcome.SHOWN`); p values not yet adjusted.

    Returns:
        The differences, and the smallest p value that the first one could have had with so many rounds.
    """
    first, second = before.single_stream, after.single_stream
    shift = _log_shift(first.burst_p50_ms, second.burst_p50_ms)
    medians = first.latency.p50_ms, second.latency.p50_ms
    plain = _latency("p50", Unit.MILLISECONDS, medians, shift, limits)
    if reference is None:
        return (plain,), shift.smallest_p
    relative = _relative(before, after, reference)
    shift = _log_shift(*relative)
    shares = percentile(relative[0], 50), percentile(relative[1], 50)
    return (_latency(f"p50 against {reference.name}", Unit.TIMES, shares, shift, limits), plain), shift.smallest_p


def cold_start_difference(before: ColdStart, after: ColdStart, limits: Limits) -> Difference:
    """Judged at once."""
    slower = min(after.samples_ms) > max(before.samples_ms)
    faster = max(after.samples_ms) < min(before.samples_ms)
    are_enough = min(len(before.samples_ms), len(after.samples_ms)) >= _LEAST_STARTS
    change = after.median_ms / before.median_ms - 1
    outcome = _outcome(change, limits.max_slowdown, is_sure=are_enough and (slower or faster))
    figures = before.median_ms, after.median_ms
    return _plain("cold start", Unit.MILLISECONDS, figures, change, limits.max_slowdown, outcome, _STARTS)


def offline_difference(before: Offline, after: Offline, limits: Limits) -> Difference:
    """Judged at once; a limit of 10 % on times is one of 9.1 % on what is done in a time."""
    first, second = before.interval_images_per_s, after.interval_images_per_s
    is_sure = first is not None and second is not None and intervals_apart(first, second)
    outcome = _outcome(before.images_per_s / after.images_per_s - 1, limits.max_slowdown, is_sure=is_sure)
    change = after.images_per_s / before.images_per_s - 1
    limit = 1 - 1 / (1 + limits.max_slowdown)
    method = _OFFLINE if first and second else "too few bursts for an interval, so nothing is sure"
    figures = before.images_per_s, after.images_per_s
    return _plain("offline throughput", Unit.IMAGES_PER_SECOND, figures, change, limit, outcome, method)


def size_difference(metric: str, before: int, after: int, limits: Limits) -> Difference:
    """Bytes, judged at once by the limit alone."""
    change = after / before - 1
    outcome = _outcome(change, limits.max_growth, is_sure=True)
    return _plain(metric, Unit.BYTES, (before, after), change, limits.max_growth, outcome, _THRESHOLD)


def is_beyond(value: float, limit: float) -> bool:
    """Whether a limit is passed, but for rounding."""
    return value > limit + _TOLERANCE


def _of_one_file(before: SubjectResult | None, after: SubjectResult | None) -> tuple[Performance, Performance] | None:
    """What two reports measured of a model, where it is the same file in both."""
    if before is None or after is None or not before.sha256 or before.sha256 != after.sha256:
        return None
    if before.performance is None or after.performance is None:
        return None
    return before.performance, after.performance


def _relative(before: Performance, after: Performance, reference: Reference) -> tuple[list[float], list[float]]:
    """Each round in units of the reference's round at the same moment, in both reports."""
    first = zip(before.single_stream.burst_p50_ms, reference.before, strict=False)
    second = zip(after.single_stream.burst_p50_ms, reference.after, strict=False)
    return [own / theirs for own, theirs in first], [own / theirs for own, theirs in second]


def _latency(metric: str, unit: Unit, figures: tuple[float, float], shift: Shift, limits: Limits) -> Difference:
    interval = shift.interval
    return Difference(
        metric=metric,
        unit=unit,
        before=figures[0],
        after=figures[1],
        change=100 * _as_share(shift.estimate),
        interval=interval and Interval(100 * _as_share(interval.low), 100 * _as_share(interval.high)),
        p=shift.p,
        method=_ROUNDS if interval else f"{_ROUNDS}; too few rounds for an interval",
        limit=100 * limits.max_slowdown,
        outcome=Outcome.SHOWN,
    )


def _plain(
    metric: str, unit: Unit, figures: tuple[float, float], change: float, limit: float, outcome: Outcome, method: str
) -> Difference:
    return Difference(metric, unit, *figures, 100 * change, None, None, method, 100 * limit, outcome)


def _outcome(worse_by: float, limit: float, *, is_sure: bool) -> Outcome:
    if is_beyond(worse_by, limit):
        return Outcome.REGRESSION if is_sure else Outcome.UNSURE
    return Outcome.IMPROVEMENT if is_sure and is_beyond(-worse_by, limit) else Outcome.WITHIN


def _log_shift(before: Sequence[float], after: Sequence[float]) -> Shift:
    return shift_between([math.log(value) for value in before], [math.log(value) for value in after])


def _as_share(logarithm: float) -> float:
    return math.expm1(min(logarithm, 100.0))


def _ran_on(performance: Performance) -> str:
    return performance.runtime + (f" ({performance.delegate})" if performance.delegate else "")
