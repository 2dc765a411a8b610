"""The arithmetic of a report, without files, clocks or processes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_Z_95 = 1.959963984540054
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


def wilson_interval(hits: int, total: int) -> tuple[float, float]:
    """The 95 % score interval of a share: it stays within 0..1 and is sound for shares near 0 or 1.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927)
    209-212; recommended by Brown, Cai and DasGupta, Statistical Science 16 (2001) 101-133.

    Args:
        hits: 0..total.
        total: At least 1.

    Returns:
        Lower and upper end, 0..1.

    Raises:
        ValueError: The counts are out of range.
    """
    if total < 1 or not 0 <= hits <= total:
        raise ValueError(f"expected 0 <= hits <= total and total >= 1, got {hits} of {total}")
    share, z2 = hits / total, _Z_95 * _Z_95
    center = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = _Z_95 / (1 + z2 / total) * math.sqrt(share * (1 - share) / total + z2 / (4 * total * total))
    # The ends are exact at 0 and 1 by algebra; rounding must not push them past the share itself.
    low = 0.0 if hits == 0 else max(0.0, center - half)
    high = 1.0 if hits == total else min(1.0, center + half)
    return low, high


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
