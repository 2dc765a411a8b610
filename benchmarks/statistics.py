"""Statistics of one report and of the difference between two: pure functions.

Percentile intervals as in B. Efron and R. J. Tibshirani, "An introduction to the bootstrap" (Chapman & Hall 1993),
chapter 13. Calls of one burst share its conditions (clock rate, cache, other programs), so bursts are drawn whole:
A. C. Davison and D. V. Hinkley, "Bootstrap methods and their application" (Cambridge 1997), section 3.8, find that
drawing groups with replacement and keeping their members mimics such data best; C. A. Field and A. H. Welsh,
"Bootstrapping clustered data", JRSS B 69 (2007) 369-390, call it the cluster bootstrap.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from edge_runtime.workstation.statistics import wilson_interval

RESAMPLES = 1999
"""Number of bootstrap samples: 1999 makes the ends of a 95 % interval whole ranks, the 50th and the 1950th."""

_TAIL_RANK = (RESAMPLES + 1) // 40
_BLOCKS = 10
NS_PER_MS = 1e6
_MIN_DRAWN = 3  # bursts, rounds or values; with fewer an interval would say nothing
_P99_QUERIES, _P99_9_QUERIES = 100, 1000
CONFIDENCE = 0.95
_MOST_EXACT = 50
"""Largest number of values on a side for the exact distribution of U; above it the normal one is as good."""
_BISECTIONS = 60


@dataclass(frozen=True)
class Share:
    """A counted share with its uncertainty."""

    hits: Annotated[int, "Number of hits, 0..total."]
    total: Annotated[int, "Number of trials, at least 1."]
    fraction: Annotated[float, "``hits / total``, 0..1."]
    low: Annotated[float, "Lower end of the Wilson 95 % interval, 0..1."]
    high: Annotated[float, "Upper end of the Wilson 95 % interval, 0..1."]


@dataclass(frozen=True)
class Interval:
    """A 95 % interval."""

    low: float
    high: float


@dataclass(frozen=True)
class LatencySummary:
    """Latency of single calls, in milliseconds; the percentiles are measured calls, see `percentile`."""

    queries: Annotated[int, "Number of timed calls."]
    p50_ms: Annotated[float, "Median of the calls."]
    p90_ms: Annotated[float, "90th percentile, which MLPerf reports for single stream."]
    p95_ms: Annotated[float, "95th percentile of the calls."]
    p99_ms: Annotated[float | None, "None with fewer than 100 calls: it would be the slowest call."]
    p99_9_ms: Annotated[float | None, "None with fewer than 1,000 calls."]
    minimum_ms: Annotated[float, "Latency of the fastest call."]
    maximum_ms: Annotated[float, "Latency of the slowest call."]
    p50_interval_ms: Annotated[
        Interval | None, "Bootstrap interval of the median over bursts; None with fewer than 3 bursts."
    ]


@dataclass(frozen=True)
class Ratio:
    """Ratio of two figures that were measured in the same rounds."""

    median: Annotated[
        float,
        "Median of the ratios of the rounds; of an even number, the geometric mean of the middle two, so that the "
        "inverse comparison gives the reciprocal.",
    ]
    interval: Annotated[
        Interval | None, "Bootstrap interval of that median over rounds; None with fewer than 3 rounds."
    ]
    rounds: Annotated[int, "Number of rounds."]


@dataclass(frozen=True)
class Shift:
    """Shift of one sample against another.

    Attributes:
        estimate: Typical difference, after minus before.
        interval: 95 % interval of the difference; None with too few values.
        p: P value of the hypothesis that the two do not differ, 0..1.
        smallest_p: Smallest p value that this number of values can give.
    """

    estimate: float
    interval: Interval | None
    p: float
    smallest_p: float


def share_of(hits: int, total: int) -> Share:
    """Make a share with its interval; see `wilson_interval`."""
    low, high = wilson_interval(hits, total)
    return Share(hits, total, hits / total, low, high)


def percentile(values: Sequence[float], percent: float) -> float:
    """Find the nearest-rank percentile: the smallest value that at least ``percent`` % of the values do not exceed.

    The result is a measured value, never interpolated. Source: type 1 of Hyndman and Fan, "Sample quantiles in
    statistical packages", The American Statistician 50 (1996) 361-365.

    Args:
        values: At least one value, in any order.
        percent: Percentage above 0, at most 100.

    Raises:
        ValueError: There are no values, or the percentage is out of range.
    """
    if not values or not 0 < percent <= 100:
        raise ValueError(f"expected values and a percentage in (0, 100], got {len(values)} values and {percent}")
    return _at_rank(sorted(values), percent)


def summarize_latencies(bursts_ns: Sequence[Sequence[int]], seed: int = 0) -> LatencySummary:
    """Compute percentiles over all calls, and the bootstrap interval of the median over their bursts.

    Args:
        bursts_ns: Latencies of single calls in nanoseconds, burst by burst; ValueError without any call. A burst
            without calls does not count, and bursts may differ in length.
        seed: Seed of the bootstrap.
    """
    bursts = [np.asarray(burst, np.int64) for burst in bursts_ns if len(burst)]
    if not bursts:
        raise ValueError(f"expected the latency of at least one call, got {len(bursts_ns)} empty bursts")
    ranked_ms = [int(latency) / NS_PER_MS for latency in np.sort(np.concatenate(bursts))]
    queries, p50_ms = len(ranked_ms), _at_rank(ranked_ms, 50)
    interval = None
    if len(bursts) >= _MIN_DRAWN:
        low_ns, high_ns = median_of_bursts(bursts, seed)
        interval = _around(p50_ms, low_ns / NS_PER_MS, high_ns / NS_PER_MS)
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
    """Divide the reference by the own figure, round by round.

    Raises:
        ValueError: There are no rounds, the numbers of rounds differ, or a value is not a number above 0.
    """
    values = [*reference, *own]
    if len(reference) != len(own) or not values or not all(0 < value < math.inf for value in values):
        raise ValueError(f"expected rounds of numbers above 0, got {len(reference)} and {len(own)}: {values[:4]} ...")
    # Differences of logarithms treat both figures alike.
    logs = np.log(np.asarray(reference, np.float64)) - np.log(np.asarray(own, np.float64))
    median = math.exp(float(np.median(logs)))
    interval = None
    if len(logs) >= _MIN_DRAWN:
        low, high = median_of_series(logs, seed)
        interval = _around(median, math.exp(low), math.exp(high))
    return Ratio(median, interval, len(logs))


def median_interval(values: Sequence[float], seed: int = 0) -> Interval | None:
    """Compute the bootstrap 95 % interval of the median of independent values, such as rates of offline bursts.

    It is None with fewer than 3 values, and its confidence is below 95 % with fewer than 6; see `median_of_values`.
    """
    if len(values) < _MIN_DRAWN:
        return None
    array = np.asarray(values, np.float64)
    return _around(float(np.median(array)), *median_of_values(array, seed))


def repeat_spread(ratio: Ratio) -> float | None:
    """Estimate how much a second run may change a ratio, as a share of it; None if unknown.

    Two medians that are each known to ``w`` (half of the 95 % interval) differ by up to ``sqrt(2) w``.
    """
    if ratio.interval is None:
        return None
    return math.sqrt(2) * (ratio.interval.high - ratio.interval.low) / 2 / ratio.median


def is_noisy(ratio: Ratio, tolerance: float = 0.05) -> bool:
    """Tell whether a second run may differ by more than a share of the ratio; an unknown spread counts as noisy."""
    spread = repeat_spread(ratio)
    return spread is None or spread > tolerance


def _at_rank(ranked: Sequence[float], percent: float) -> float:
    # Multiplying before dividing keeps ranks such as 90 % of 10 whole; the last factor keeps those of 99.9 %.
    rank = math.ceil(percent * len(ranked) / 100 * (1 - 1e-14))
    return ranked[max(1, rank) - 1]


def _around(estimate: float, low: float, high: float) -> Interval:
    """Widen an interval to hold its estimate, which bursts of very unequal length can leave just outside."""
    return Interval(min(low, estimate), max(high, estimate))


def median_of_bursts(bursts: Sequence[NDArray[np.int64]], seed: int) -> tuple[float, float]:
    """Compute the 95 % interval of the nearest-rank median of all calls, drawing whole bursts with replacement.

    Bursts are int64 [calls] with at least one call each, and may differ in length. Both ends are measured values.
    """
    drawn = np.random.default_rng(seed).multinomial(len(bursts), np.full(len(bursts), 1 / len(bursts)), RESAMPLES)
    return _ends(_weighted_medians(bursts, drawn).astype(np.float64))


def median_of_values(values: NDArray[np.float64], seed: int) -> tuple[float, float]:
    """Compute the 95 % interval of the ordinary median of independent values: float64 [n], at least one.

    Few values bound any such interval: that from the smallest to the largest of n holds the true median with a
    probability of ``1 - 2 ** (1 - n)``, which is 75 % for 3 values and above 95 % from 6 on.
    """
    drawn = np.random.default_rng(seed).integers(len(values), size=(RESAMPLES, len(values)))
    return _ends(np.median(values[drawn], axis=1))


def median_of_series(values: NDArray[np.float64], seed: int) -> tuple[float, float]:
    """Compute the 95 % interval of the median of consecutive measurements: float64 [n], at least one.

    Neighbors share slow drifts of the machine, which draws of single values would average away. So runs of a tenth of
    all values are drawn whole, the last followed by the first: the circular block bootstrap of D. N. Politis and
    J. P. Romano (in "Exploring the limits of bootstrap", Wiley 1992). Below 20 values it is `median_of_values`.
    """
    count = len(values)
    length = max(1, count // _BLOCKS)
    starts = np.random.default_rng(seed).integers(count, size=(RESAMPLES, math.ceil(count / length)))
    drawn = (starts[:, :, np.newaxis] + np.arange(length)) % count
    return _ends(np.median(values[drawn.reshape(RESAMPLES, -1)[:, :count]], axis=1))


def _weighted_medians(bursts: Sequence[NDArray[np.int64]], drawn: NDArray[np.int64]) -> NDArray[np.int64]:
    """Compute the nearest-rank median of each resample, which holds burst i ``drawn[resample, i]`` times.

    All resamples consist of the same calls, so these are sorted once; the rank of the median is then bisected for all
    resamples at a time, by counting the calls of each burst up to a rank.
    """
    pooled = np.concatenate(bursts)
    order = np.argsort(pooled, kind="stable")
    burst_of_rank = np.repeat(np.arange(len(bursts)), [len(burst) for burst in bursts])[order]
    ranks_of_burst = [np.flatnonzero(burst_of_rank == index) for index in range(len(bursts))]
    calls = drawn @ np.array([len(burst) for burst in bursts])
    half = (calls + 1) // 2
    low, high = np.zeros(len(drawn), np.int64), np.full(len(drawn), len(pooled) - 1, np.int64)
    while np.any(low < high):
        middle = (low + high) // 2
        counted = np.zeros(len(drawn), np.int64)
        for times, ranks in zip(drawn.T, ranks_of_burst, strict=True):
            counted += times * np.searchsorted(ranks, middle, side="right")
        is_reached = counted >= half
        low, high = np.where(is_reached, low, middle + 1), np.where(is_reached, middle, high)
    medians: NDArray[np.int64] = pooled[order][low]
    return medians


def _ends(estimates: NDArray[np.float64]) -> tuple[float, float]:
    ranked = np.sort(estimates)
    return float(ranked[_TAIL_RANK - 1]), float(ranked[-_TAIL_RANK])


def shift_between(before: Sequence[float], after: Sequence[float]) -> Shift:
    """Compute Hodges' and Lehmann's shift with its interval, and the Mann-Whitney test that this interval inverts.

    The estimate is the median of all differences between a value of one and a value of the other, so a few disturbed
    rounds do not move it. The test assumes no distribution and holds its level with any number of values, which a
    bootstrap of the median does not with the few rounds of a benchmark. Sources: J. Hodges and
    E. Lehmann, "Estimates of location based on rank tests", Annals of Mathematical Statistics 34 (1963) 598-611;
    M. Hollander and D. Wolfe, "Nonparametric statistical methods", 2nd ed. 1999, sections 4.1 to 4.3.

    Raises:
        ValueError: A side has no values, or one is not finite.
    """
    first, second = np.asarray(before, np.float64), np.asarray(after, np.float64)
    if not first.size or not second.size or not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError(f"expected finite values on both sides, got {first.size} and {second.size}")
    differences = np.sort((second[None, :] - first[:, None]).ravel())
    # Ties count half, so U may end in .5; the smaller one is rounded up, which makes p larger, never smaller.
    above = float(np.count_nonzero(differences > 0) + np.count_nonzero(differences == 0) / 2)
    smaller_u = math.ceil(min(above, differences.size - above))
    cumulative = _u_cumulative(first.size, second.size)
    rank = int(np.searchsorted(cumulative, (1 - CONFIDENCE) / 2, side="right"))
    interval = Interval(float(differences[rank - 1]), float(differences[-rank])) if rank else None
    p = min(1.0, 2 * float(cumulative[smaller_u]))
    return Shift(float(np.median(differences)), interval, p, min(1.0, 2 * float(cumulative[0])))


@functools.lru_cache(maxsize=64)
def _u_cumulative(first: int, second: int) -> NDArray[np.float64]:
    """Compute P(U <= u) for u = 0..first * second if both samples have the same distribution."""
    if max(first, second) > _MOST_EXACT:
        spread = math.sqrt(first * second * (first + second + 1) / 12)
        steps = (np.arange(first * second + 1) + 0.5 - first * second / 2) / spread
        return np.array([0.5 * math.erfc(-step / math.sqrt(2)) for step in steps])
    # The number of orders with U = u is the coefficient of q^u in the Gaussian binomial: the product over i of
    # (1 - q^(first + i)) / (1 - q^i). Python integers, because the counts exceed int64.
    counts = [1] + [0] * (first * second)
    for i in range(1, second + 1):
        for u in range(len(counts) - 1, first + i - 1, -1):
            counts[u] -= counts[u - first - i]
        for u in range(i, len(counts)):
            counts[u] += counts[u - i]
    total = math.comb(first + second, first)
    sums = [0]
    for count in counts:
        sums.append(sums[-1] + count)
    return np.array([value / total for value in sums[1:]])


def unpaired_drop_interval(before: Share, after: Share, confidence: float = CONFIDENCE) -> Interval:
    """Compute the interval of ``before`` minus ``after`` in percentage points if the images cannot be paired.

    Newcombe's hybrid of the two Wilson intervals. For the same images it is conservative, because models tend to fail
    on the same ones. Source: R. Newcombe, "Interval estimation for the difference between independent proportions:
    comparison of eleven methods", Statistics in Medicine 17 (1998) 873-890, method 10.
    """
    low1, high1 = wilson_interval(before.hits, before.total, confidence)
    low2, high2 = wilson_interval(after.hits, after.total, confidence)
    share1, share2 = before.hits / before.total, after.hits / after.total
    drop = share1 - share2
    low = drop - math.hypot(share1 - low1, high2 - share2)
    high = drop + math.hypot(high1 - share1, share2 - low2)
    return Interval(100 * low, 100 * high)


def unpaired_p(before: Share, after: Share) -> float:
    """Compute the p value of equal shares: 1 minus the confidence at which `unpaired_drop_interval` just holds 0."""
    if before.hits * after.total == after.hits * before.total:
        return 1.0
    low, high = 0.0, 1.0 - 1e-12
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        interval = unpaired_drop_interval(before, after, middle)
        low, high = (low, middle) if interval.low <= 0 <= interval.high else (middle, high)
    return 1 - high


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Adjust p values for their number, in the same order.

    If those of at most 0.05 count as differences, all of them together report a false one at most once in 20
    comparisons. Source: S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
    Statistics 6 (1979) 65-70.
    """
    adjusted = [1.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return tuple(adjusted)


def intervals_apart(before: Interval, after: Interval) -> bool:
    """Tell whether two 95 % intervals do not touch, which is stricter than a test of the difference at 5 %."""
    return before.high < after.low or after.high < before.low
