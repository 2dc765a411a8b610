"""How sure a median is, by drawing again from what was measured.

Percentile intervals as in B. Efron and R. J. Tibshirani, "An introduction to the bootstrap" (Chapman & Hall 1993),
chapter 13. Calls of one burst share the burst's weather (clock rate, cache, neighbours), so bursts are drawn whole:
A. C. Davison and D. V. Hinkley, "Bootstrap methods and their application" (Cambridge 1997), section 3.8, find that
drawing groups with replacement and keeping their members mimics such data best; C. A. Field and A. H. Welsh,
"Bootstrapping clustered data", JRSS B 69 (2007) 369-390, call it the cluster bootstrap.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1999
"""One less than a round number, so that the ends of a 95 % interval are whole ranks: the 50th and the 1950th."""

_TAIL_RANK = (RESAMPLES + 1) // 40
_BLOCKS = 10


def median_of_bursts(bursts: Sequence[NDArray[np.int64]], seed: int) -> tuple[float, float]:
    """The 95 % interval of the nearest-rank median of all calls, with whole bursts drawn with replacement.

    Args:
        bursts: int64 [calls] each, at least one call in each; they may differ in length.
        seed: Of the draws.

    Returns:
        Lower and upper end, both measured values.
    """
    drawn = np.random.default_rng(seed).multinomial(len(bursts), np.full(len(bursts), 1 / len(bursts)), RESAMPLES)
    return _ends(_weighted_medians(bursts, drawn).astype(np.float64))


def median_of_values(values: NDArray[np.float64], seed: int) -> tuple[float, float]:
    """The 95 % interval of the ordinary median of independent values: float64 [n], at least one.

    Few values bound any such interval: that from the smallest to the largest of n holds the true median with a
    probability of ``1 - 2 ** (1 - n)``, which is 75 % for 3 values and above 95 % from 6 on.
    """
    drawn = np.random.default_rng(seed).integers(len(values), size=(RESAMPLES, len(values)))
    medians: NDArray[np.float64] = np.median(values[drawn], axis=1)
    return _ends(medians)


def median_of_series(values: NDArray[np.float64], seed: int) -> tuple[float, float]:
    """The 95 % interval of the median of values that were taken one after the other: float64 [n], at least one.

    Neighbours share slow drifts of the machine, which draws of single values would average away. So runs of a tenth of
    all values are drawn whole, the last followed by the first: the circular block bootstrap of D. N. Politis and
    J. P. Romano (in "Exploring the limits of bootstrap", Wiley 1992). Below 20 values it is `median_of_values`.
    """
    count = len(values)
    length = max(1, count // _BLOCKS)
    starts = np.random.default_rng(seed).integers(count, size=(RESAMPLES, math.ceil(count / length)))
    drawn = (starts[:, :, np.newaxis] + np.arange(length)) % count
    medians: NDArray[np.float64] = np.median(values[drawn.reshape(RESAMPLES, -1)[:, :count]], axis=1)
    return _ends(medians)


def _weighted_medians(bursts: Sequence[NDArray[np.int64]], drawn: NDArray[np.int64]) -> NDArray[np.int64]:
    """Nearest-rank median of each resample.

    All resamples consist of the same calls, so these are sorted once; where the median lies is then bisected for all
    resamples at a time, by counting the calls of each burst up to a rank.

    Args:
        bursts: As in `median_of_bursts`.
        drawn: int64 [resamples, bursts], how often each burst is in a resample.
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
