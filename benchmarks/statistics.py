"""The arithmetic of a report, without files, clocks or processes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edge_runtime.statistics.intervals import wilson_interval

"""Quantile 0.975 of the standard normal distribution, for a two-sided 95 % interval."""

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
class LatencySummary:
    """Latency of single calls, in milliseconds; the percentiles are measured calls, see `percentile`."""

    invocations: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    minimum_ms: float
    maximum_ms: float


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


def summarize_latencies(latencies_ns: Sequence[int]) -> LatencySummary:
    """Percentiles in milliseconds of individual latencies in nanoseconds (at least one)."""
    return LatencySummary(
        invocations=len(latencies_ns),
        p50_ms=percentile(latencies_ns, 50) / _NS_PER_MS,
        p90_ms=percentile(latencies_ns, 90) / _NS_PER_MS,
        p99_ms=percentile(latencies_ns, 99) / _NS_PER_MS,
        minimum_ms=min(latencies_ns) / _NS_PER_MS,
        maximum_ms=max(latencies_ns) / _NS_PER_MS,
    )
