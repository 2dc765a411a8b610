"""How sure a difference between two reports can be, without files, clocks or processes."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.statistics import Interval, Share
from edge_runtime.statistics.intervals import wilson_interval

CONFIDENCE = 0.95
_MOST_EXACT = 50
"""Values on a side up to which the distribution of U is counted out; the normal one is as good from there on."""
_BISECTIONS = 60


@dataclass(frozen=True)
class Shift:
    """How far one sample lies above another.

    Attributes:
        estimate: Typical difference, after less before.
        interval: 95 % interval of it; None where there are too few values for one.
        p: P value that the two do not differ, 0..1.
        smallest_p: The smallest p value that so many values can give.
    """

    estimate: float
    interval: Interval | None
    p: float
    smallest_p: float


def shift_between(before: Sequence[float], after: Sequence[float]) -> Shift:
    """Hodges' and Lehmann's shift with its interval, and the Mann-Whitney test that this interval inverts.

    The estimate is the median of all differences between a value of one and a value of the other, so a few disturbed
    rounds do not move it. The test supposes no distribution and holds its level with any number of values, which a
    bootstrap of the median does not with the handful of rounds that a benchmark has. Sources: J. Hodges and
    E. Lehmann, "Estimates of location based on rank tests", Annals of Mathematical Statistics 34 (1963) 598-611;
    M. Hollander and D. Wolfe, "Nonparametric statistical methods", 2nd ed. 1999, sections 4.1 to 4.3.

    Args:
        before: At least one value.
        after: At least one value.

    Raises:
        ValueError: No values, or one that is not finite.
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
    """P(U <= u) for u = 0..first * second if the two samples are of one kind."""
    if max(first, second) > _MOST_EXACT:
        spread = math.sqrt(first * second * (first + second + 1) / 12)
        steps = (np.arange(first * second + 1) + 0.5 - first * second / 2) / spread
        return np.array([0.5 * math.erfc(-step / math.sqrt(2)) for step in steps])
    # The number of orders with U = u is the coefficient of q^u in the Gaussian binomial: the product over i of
    # (1 - q^(first + i)) / (1 - q^i). Python's whole numbers, because the counts leave the range of int64.
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
    """The interval of one share less another, where nobody knows which pictures belong together.

    Newcombe's hybrid of the two Wilson intervals. Of the same pictures it is wider than need be, because models tend to
    fail on the same ones; it never claims too much. Source: R. Newcombe, "Interval estimation for the difference
    between independent proportions: comparison of eleven methods", Statistics in Medicine 17 (1998) 873-890, method 10.

    Args:
        before: First share.
        after: Second share.
        confidence: Of the two-sided interval, between 0 and 1.

    Returns:
        In percentage points; positive is a loss.
    """
    low1, high1 = wilson_interval(before.hits, before.total, confidence)
    low2, high2 = wilson_interval(after.hits, after.total, confidence)
    share1, share2 = before.hits / before.total, after.hits / after.total
    drop = share1 - share2
    low = drop - math.hypot(share1 - low1, high2 - share2)
    high = drop + math.hypot(high1 - share1, share2 - low2)
    return Interval(100 * low, 100 * high)


def unpaired_p(before: Share, after: Share) -> float:
    """P value that two shares do not differ: 1 less the confidence at which `unpaired_drop_interval` just holds 0."""
    if before.hits * after.total == after.hits * before.total:
        return 1.0
    low, high = 0.0, 1.0 - 1e-12
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        interval = unpaired_drop_interval(before, after, middle)
        low, high = (low, middle) if interval.low <= 0 <= interval.high else (middle, high)
    return 1 - high


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """P values adjusted for their number, in the same order.

    If those at most 0.05 are called differences, then all of them together call one that is none at most once in 20
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
    """Whether two 95 % intervals do not touch, which is stricter than a test of the difference at 5 %."""
    return before.high < after.low or after.high < before.low
