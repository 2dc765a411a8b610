"""The arithmetic of a report, without files, clocks or processes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edge_runtime.statistics.intervals import wilson_interval

_NS_PER_MS = 1e6


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
        median: Median of the ratios of the rounds.
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
    # Multiplying before dividing keeps ranks such as 90 % of 10 whole.
    rank = math.ceil(percent * len(values) / 100)
    return sorted(values)[max(1, rank) - 1]


def summarize_latencies(bursts_ns: Sequence[Sequence[int]], seed: int = 0) -> LatencySummary:
    """Percentiles over all calls, and the interval of the median over the bursts they came in.

    Calls of one burst are not independent of one another, so whole bursts are drawn.

    Args:
        bursts_ns: Latencies of single calls in nanoseconds, burst by burst; at least one call.
        seed: Of the bootstrap.
    """
    raise NotImplementedError


def ratio_of(reference: Sequence[float], own: Sequence[float], seed: int = 0) -> Ratio:
    """How many times as much the reference takes, round by round.

    Args:
        reference: Of each round, above 0.
        own: The same of the other thing, as many.
        seed: Of the bootstrap.
    """
    raise NotImplementedError
