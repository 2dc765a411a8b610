"""The arithmetic of a report, without files, clocks or processes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.bootstrap import median_of_bursts, median_of_series, median_of_values
from edge_runtime.statistics.intervals import wilson_interval

_NS_PER_MS = 1e6
_MIN_DRAWN = 3  # bursts, rounds or values; with fewer an interval would say nothing
_P99_QUERIES, _P99_9_QUERIES = 100, 1000


@dataclass(frozen=True)
class Share:
    """A counted share with its uncertainty.

    Attributes:
        hits: How many.
        total: Of how many, at least 1.
        fraction: ``hits / total``, 0..1.
        low: Lower end of the Wilson 95 % interval, 0..1.
        high: Upper end of it, 0..1.
    """

    hits: int
    total: int
    fraction: float
    low: float
    high: float


@dataclass(frozen=True)
class Interval:
    """A 95 % interval."""

    low: float
    high: float


@dataclass(frozen=True)
class LatencySummary:
    """Latency of single calls, in milliseconds; the percentiles are measured calls, see `percentile`.

    Attributes:
        queries: How many calls were timed.
        p50_ms: Median.
        p90_ms: The figure that MLPerf reports for single stream.
        p95_ms: 95th percentile.
        p99_ms: None with fewer than 100 calls: it would be the slowest call.
        p99_9_ms: None with fewer than 1,000 calls.
        minimum_ms: Fastest call.
        maximum_ms: Slowest call.
        p50_interval_ms: Bootstrap interval of the median over bursts; None with fewer than 3 bursts.
    """

    queries: int
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float | None
    p99_9_ms: float | None
    minimum_ms: float
    maximum_ms: float
    p50_interval_ms: Interval | None


@dataclass(frozen=True)
class Ratio:
    """How many times as much one thing takes as another, both measured in the same rounds.

    Attributes:
        median: Median of the ratios of the rounds; of an even number, the geometric mean of the middle two, so that
            two things compared the other way round give the reciprocal.
        interval: Bootstrap interval of that median over rounds; None with fewer than 3 rounds.
        rounds: How many ratios.
    """

    median: float
    interval: Interval | None
    rounds: int


def share_of(hits: int, total: int) -> Share:
    """A share with its interval; see `wilson_interval`."""
    low, high = wilson_interval(hits, total)
    return Share(hits, total, hits / total, low, high)


def percentile(values: Sequence[float], percent: float) -> float:
    """Nearest rank: the smallest value that at least ``percent`` % of the values do not exceed.

    It is a value that was measured, never an interpolated one. Source: type 1 of Hyndman and Fan, "Sample quantiles in
    statistical packages", The American Statistician 50 (1996) 361-365.

    Args:
        values: At least one, in any order.
        percent: Above 0, at most 100.

    Raises:
        ValueError: No values, or a percentage out of range.
    """
    if not values or not 0 < percent <= 100:
        raise ValueError(f"expected values and a percentage in (0, 100], got {len(values)} values and {percent}")
    return _at_rank(sorted(values), percent)


def summarize_latencies(bursts_ns: Sequence[Sequence[int]], seed: int = 0) -> LatencySummary:
    """Percentiles over all calls, and the interval of the median over the bursts they came in.

    Calls of one burst are not independent of one another, so whole bursts are drawn; see `benchmarks.bootstrap`.

    Args:
        bursts_ns: Latencies of single calls in nanoseconds, burst by burst; at least one call. A burst without calls
            does not count, and bursts may differ in length.
        seed: Of the bootstrap.

    Raises:
        ValueError: Not one call.
    """
    bursts = [np.asarray(burst, np.int64) for burst in bursts_ns if len(burst)]
    if not bursts:
        raise ValueError(f"expected the latency of at least one call, got {len(bursts_ns)} empty bursts")
    ranked_ms = [int(latency) / _NS_PER_MS for latency in np.sort(np.concatenate(bursts))]
    queries, p50_ms = len(ranked_ms), _at_rank(ranked_ms, 50)
    interval = None
    if len(bursts) >= _MIN_DRAWN:
        low_ns, high_ns = median_of_bursts(bursts, seed)
        interval = _around(p50_ms, low_ns / _NS_PER_MS, high_ns / _NS_PER_MS)
    return LatencySummary(
        queries=queries,
        p50_ms=p50_ms,
        p90_ms=_at_rank(ranked_ms, 90),
        p95_ms=_at_rank(ranked_ms, 95),
        p99_ms=_at_rank(ranked_ms, 99) if queries >= _P99_QUERIES else None,
        p99_9_ms=_at_rank(ranked_ms, 99.9) if queries >= _P99_9_QUERIES else None,
        minimum_ms=ranked_ms[0],
        maximum_ms=ranked_ms[-1],
        p50_interval_ms=interval,
    )


def ratio_of(reference: Sequence[float], own: Sequence[float], seed: int = 0) -> Ratio:
    """How many times as much the reference takes, round by round.

    Args:
        reference: Of each round, above 0.
        own: The same of the other thing, as many.
        seed: Of the bootstrap.

    Raises:
        ValueError: No rounds, not as many of both, or a value that is not a number above 0.
    """
    values = [*reference, *own]
    if len(reference) != len(own) or not values or not all(0 < value < math.inf for value in values):
        raise ValueError(f"expected rounds of numbers above 0, got {len(reference)} and {len(own)}: {values[:4]} ...")
    # Differences of logarithms, so that neither of the two is the one that is divided by.
    logs = np.log(np.asarray(reference, np.float64)) - np.log(np.asarray(own, np.float64))
    median = math.exp(float(np.median(logs)))
    interval = None
    if len(logs) >= _MIN_DRAWN:
        low, high = median_of_series(logs, seed)
        interval = _around(median, math.exp(low), math.exp(high))
    return Ratio(median, interval, len(logs))


def median_interval(values: Sequence[float], seed: int = 0) -> Interval | None:
    """Bootstrap 95 % interval of the median of a few independent values, such as rates of offline bursts.

    Args:
        values: In any order.
        seed: Of the bootstrap.

    Returns:
        The interval, which with fewer than 6 values cannot be as sure as it says (see
        `benchmarks.bootstrap.median_of_values`); None with fewer than 3.
    """
    if len(values) < _MIN_DRAWN:
        return None
    array = np.asarray(values, np.float64)
    return _around(float(np.median(array)), *median_of_values(array, seed))


def repeat_spread(ratio: Ratio) -> float | None:
    """By how much a second run of the same benchmark may give another ratio, as a share of it; None where unknown.

    Two medians that are each known to ``w`` (half of the 95 % interval) differ by up to ``sqrt(2) w``.
    """
    if ratio.interval is None:
        return None
    return math.sqrt(2) * (ratio.interval.high - ratio.interval.low) / 2 / ratio.median


def is_noisy(ratio: Ratio, tolerance: float = 0.05) -> bool:
    """Whether a second run of the same benchmark may well give another ratio.

    Args:
        ratio: The ratio.
        tolerance: How far apart two runs may lie, as a share.

    Returns:
        True where `repeat_spread` is more, and where it is unknown: what nobody knows to be steady cannot be relied on.
    """
    spread = repeat_spread(ratio)
    return spread is None or spread > tolerance


def _at_rank(ranked: Sequence[float], percent: float) -> float:
    # Multiplying before dividing keeps ranks such as 90 % of 10 whole, the last factor those of 99.9 %.
    rank = math.ceil(percent * len(ranked) / 100 * (1 - 1e-14))
    return ranked[max(1, rank) - 1]


def _around(estimate: float, low: float, high: float) -> Interval:
    """Bursts of very unequal length could leave the estimate just outside its own interval; a reader would stumble."""
    return Interval(min(low, estimate), max(high, estimate))
