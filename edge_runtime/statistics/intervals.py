"""The interval that goes with every share of pictures, for training, conversion and benchmarks alike."""

from __future__ import annotations

import math
import statistics


def wilson_interval(hits: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """The score interval of a share: it stays within 0..1 and is sound for shares near 0 or 1.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927)
    209-212; recommended by Brown, Cai and DasGupta, Statistical Science 16 (2001) 101-133.

    Args:
        hits: 0..total.
        total: At least 1.
        confidence: Of the two-sided interval, between 0 and 1.

    Returns:
        Lower and upper end, 0..1.

    Raises:
        ValueError: The counts or the confidence are out of range.
    """
    if total < 1 or not 0 <= hits <= total:
        raise ValueError(f"expected 0 <= hits <= total and total >= 1, got {hits} of {total}")
    z = normal_quantile(confidence)
    share, z2 = hits / total, z * z
    center = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = z / (1 + z2 / total) * math.sqrt(share * (1 - share) / total + z2 / (4 * total * total))
    # The ends are exact at 0 and 1 by algebra; rounding must not push them past the share itself.
    low = 0.0 if hits == 0 else max(0.0, center - half)
    high = 1.0 if hits == total else min(1.0, center + half)
    return low, high


def normal_quantile(confidence: float) -> float:
    """The standard normal deviate of a two-sided interval, such as 1.96 for a confidence of 0.95.

    Raises:
        ValueError: The confidence is not between 0 and 1.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"expected a confidence between 0 and 1, got {confidence}")
    return statistics.NormalDist().inv_cdf(0.5 + confidence / 2)
