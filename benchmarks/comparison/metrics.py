"""Differences in latency, throughput, cold start and size; latency relative to a reference model."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from benchmarks.comparison.record import Difference, Limits, Outcome, Unit, is_beyond
from benchmarks.records import NotMeasured, Performance, SubjectResult
from benchmarks.statistics import Interval, Shift, intervals_apart, percentile, shift_between

OFFLINE = "offline throughput"
COLD_START = "cold start"
_ROUNDS = "the rounds' medians: Hodges' and Lehmann's shift, Mann-Whitney test"
_THRESHOLD = "no test: only the limit counts"
_STARTS = "few starts: the median passes the limit, and every start of one is slower than every start of the other"
_INTERVALS = "the median passes the limit, and the 95 % intervals do not touch"
_LEAST_STARTS = 3
_DISTURBED = 2.0
"""Largest growth of an interval by dividing by the reference; sqrt(2) if both are equally unsteady."""


@dataclass(frozen=True)
class Reference:
    """Model that shows the speed of the machine.

    Attributes:
        name: Name of the subject.
        before: Median of each round in the first report, in ms.
        after: Median of each round in the second report, in ms.
        drift: Growth of its latency from the first report to the second, as a share; 0.1 is 10 %.
    """

    name: str
    before: tuple[float, ...]
    after: tuple[float, ...]
    drift: float


def find_reference(name: str, before: SubjectResult | None, after: SubjectResult | None) -> Reference | str:
    """Open the reference, or give the reason, as the end of a sentence, why there is none."""
    if before is None or after is None or before.performance is None or after.performance is None:
        return f"{name} was not measured in both reports"
    first, second = before.performance, after.performance
    if not before.sha256 or before.sha256 != after.sha256:
        return f"{name} is not the same model file in both reports"
    if (first.runtime, first.delegate) != (second.runtime, second.delegate):
        return f"{name} ran on {_ran_on(first)} and then on {_ran_on(second)}"
    bursts = first.single_stream.burst_p50_ms, second.single_stream.burst_p50_ms
    return Reference(name, *bursts, _as_share(_log_shift(*bursts).estimate))


def is_disturbed(reference: Reference, performances: Sequence[tuple[Performance, Performance]], limits: Limits) -> bool:
    """Tell whether the reference alone was slowed, so that dividing by it makes latencies less certain.

    Only the width of intervals decides, never their position: else the choice would favour a result.
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


def find_drift(metric: str, before: SubjectResult | None, after: SubjectResult | None) -> float | None:
    """Measure how much longer one model file took for `OFFLINE` or `COLD_START` in the second report, as a share.

    Offline takes all cores at once. Their common speed drifts more than that of one core, and independently of it.

    Returns:
        None where it is not the same file or was not measured in both reports.
    """
    if before is None or after is None or not before.sha256 or before.sha256 != after.sha256:
        return None
    unit, value = _METRICS[metric]
    first, second = (item.performance and value(item.performance) for item in (before, after))
    return _worse_by(unit, first, second) if first and second else None


def latency_differences(
    before: Performance, after: Performance, reference: Reference | None, limits: Limits
) -> tuple[tuple[Difference, ...], float]:
    """Compare p50; with a reference, first p50 in units of the reference, which is then the one that is tested.

    Not yet judged (`Outcome.SHOWN`); p values not yet adjusted.

    Returns:
        The differences, and the smallest p value that the tested one can have with this number of rounds.
    """
    first, second = before.single_stream, after.single_stream
    shift = _log_shift(first.burst_p50_ms, second.burst_p50_ms)
    medians = first.latency.p50_ms, second.latency.p50_ms
    if reference is None:
        return (_latency("p50", Unit.MILLISECONDS, medians, shift, limits, shift.p),), shift.smallest_p
    plain = _latency("p50", Unit.MILLISECONDS, medians, shift, limits, None)
    relative = _relative(before, after, reference)
    shift = _log_shift(*relative)
    shares = percentile(relative[0], 50), percentile(relative[1], 50)
    judged = _latency(f"p50 against {reference.name}", Unit.TIMES, shares, shift, limits, shift.p)
    return (judged, plain), shift.smallest_p


def rule_differences(
    before: Performance, after: Performance, limits: Limits, not_judged: frozenset[str]
) -> tuple[list[Difference], list[NotMeasured]]:
    """Compare the metrics without a test: throughput, cold start, memory and install size.

    Those in ``not_judged`` are only shown.
    """
    differences, missing = [], []
    for name, (unit, value) in _METRICS.items():
        first, second = value(before), value(after)
        workers = [item.offline.workers for item in (before, after) if item.offline]
        if name == OFFLINE and first and second and workers[0] != workers[1]:
            missing.append(NotMeasured(name, f"{workers[0]} and {workers[1]} workers"))
        elif first and second:
            is_sure, method = _rule(name, before, after)
            found = _by_limit(name, unit, first, second, limits, is_sure=is_sure, method=method)
            differences.append(replace(found, outcome=Outcome.SHOWN) if name in not_judged else found)
        elif (first is None) != (second is None):  # metrics that neither report has are explained by the reports
            missing.append(NotMeasured(name, "measured in one report only"))
    return differences, missing


def size_difference(before: int, after: int, limits: Limits) -> Difference:
    """Compare the size of the model file in bytes, judged by the limit alone."""
    return _by_limit("file size", Unit.BYTES, before, after, limits)


_METRICS: dict[str, tuple[Unit, Callable[[Performance], float | None]]] = {
    OFFLINE: (Unit.IMAGES_PER_SECOND, lambda item: item.offline.images_per_s if item.offline else None),
    COLD_START: (Unit.MILLISECONDS, lambda item: item.cold_start.median_ms),
    "peak memory": (Unit.BYTES, lambda item: item.resources.peak_memory_bytes),
    "install size": (Unit.BYTES, lambda item: item.resources.install_bytes),
}
"""Metrics that are judged without a test: unit and getter, in the order of the report."""


def _rule(metric: str, before: Performance, after: Performance) -> tuple[bool, str]:
    """Tell whether a change beyond the limit is significant, and by which method."""
    if metric == OFFLINE:
        first, second = (item.offline and item.offline.interval_images_per_s for item in (before, after))
        if not first or not second:
            return False, "too few bursts for an interval, so nothing is significant"
        return intervals_apart(first, second), _INTERVALS
    if metric == COLD_START:
        starts = before.cold_start.samples_ms, after.cold_start.samples_ms
        are_apart = min(starts[1]) > max(starts[0]) or max(starts[1]) < min(starts[0])
        return are_apart and min(map(len, starts)) >= _LEAST_STARTS, _STARTS
    return True, _THRESHOLD


def _by_limit(
    metric: str,
    unit: Unit,
    before: float,
    after: float,
    limits: Limits,
    *,
    is_sure: bool = True,
    method: str = _THRESHOLD,
) -> Difference:
    limit = limits.max_growth if unit is Unit.BYTES else limits.max_slowdown
    outcome = judge(_worse_by(unit, before, after), limit, is_sure=is_sure)
    if unit is Unit.IMAGES_PER_SECOND:
        limit = 1 - 1 / (1 + limit)  # 10 % more time is 9.1 % less throughput
    change = 100 * (after / before - 1)
    return Difference(metric, unit, before, after, change, None, None, method, 100 * limit, outcome)


def _worse_by(unit: Unit, before: float, after: float) -> float:
    """Compute the growth as a share; for throughput that of the time an image takes."""
    return before / after - 1 if unit is Unit.IMAGES_PER_SECOND else after / before - 1


def judge(worse_by: float, limit: float, *, is_sure: bool) -> Outcome:
    """Judge a change for the worse (above 0) or the better by its limit and its significance."""
    if is_beyond(worse_by, limit):
        return Outcome.REGRESSION if is_sure else Outcome.UNSURE
    return Outcome.IMPROVEMENT if is_sure and is_beyond(-worse_by, limit) else Outcome.WITHIN


def _relative(before: Performance, after: Performance, reference: Reference) -> tuple[list[float], list[float]]:
    """Divide each round by the reference's round at the same moment, in both reports."""
    first = zip(before.single_stream.burst_p50_ms, reference.before, strict=False)
    second = zip(after.single_stream.burst_p50_ms, reference.after, strict=False)
    return [own / theirs for own, theirs in first], [own / theirs for own, theirs in second]


def _latency(
    metric: str, unit: Unit, figures: tuple[float, float], shift: Shift, limits: Limits, p: float | None
) -> Difference:
    found = shift.interval
    interval = found and Interval(100 * _as_share(found.low), 100 * _as_share(found.high))
    method = _ROUNDS if found else f"{_ROUNDS}; too few rounds for an interval"
    change, limit = 100 * _as_share(shift.estimate), 100 * limits.max_slowdown
    return Difference(metric, unit, *figures, change, interval, p, method, limit, Outcome.SHOWN)


def _log_shift(before: Sequence[float], after: Sequence[float]) -> Shift:
    return shift_between([math.log(value) for value in before], [math.log(value) for value in after])


def _as_share(logarithm: float) -> float:
    return math.expm1(min(logarithm, 100.0))


def _ran_on(performance: Performance) -> str:
    return performance.runtime + (f" ({performance.delegate})" if performance.delegate else "")
