"""Statistics of shares and of paired answers: intervals, McNemar's test and calibration error."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

_BISECTIONS = 60


def wilson_interval(hits: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Compute the Wilson score interval of a share, which stays within 0..1 and is sound near 0 and 1.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927)
    209-212; recommended by Brown, Cai and DasGupta, Statistical Science 16 (2001) 101-133.

    Args:
        hits: Number of successes, 0..total.
        total: Number of trials, at least 1.
        confidence: Confidence of the two-sided interval, between 0 and 1.

    Returns:
        Lower and upper end of the interval, 0..1.

    Raises:
        ValueError: The counts or the confidence are out of range.
    """
    if total < 1 or not 0 <= hits <= total:
        raise ValueError(f"expected 0 <= hits <= total and total >= 1, got {hits} of {total}")
    z = normal_quantile(confidence)
    share, z2 = hits / total, z * z
    center = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = z / (1 + z2 / total) * math.sqrt(share * (1 - share) / total + z2 / (4 * total * total))
    # At 0 and 1 the ends are exact; rounding must not push them past the share.
    low = 0.0 if hits == 0 else max(0.0, center - half)
    high = 1.0 if hits == total else min(1.0, center + half)
    return low, high


def normal_quantile(confidence: float) -> float:
    """Return the standard normal quantile of a two-sided interval, such as 1.96 for a confidence of 0.95.

    Raises:
        ValueError: The confidence is not between 0 and 1.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"expected a confidence between 0 and 1, got {confidence}")
    return statistics.NormalDist().inv_cdf(0.5 + confidence / 2)


def paired_drop_interval(
    keras_correct: NDArray[np.bool_], artifact_correct: NDArray[np.bool_], confidence: float = 0.95
) -> tuple[float, float]:
    """Compute the interval of Keras' accuracy minus the artifact's on the same images.

    Tango's score interval. It inverts the score test that at a difference of 0 is McNemar's, so the two agree; its
    coverage is good in small samples; and unlike Wald's interval it has a width where both models are right on the
    same images. Source: T. Tango, "Equivalence test and confidence
    interval for the difference in proportions for the paired-sample design", Statistics in Medicine 17 (1998) 891-908;
    among the intervals recommended by Fagerland, Lydersen and Laake, Statistics in Medicine 33 (2014) 2850-2875.

    Args:
        keras_correct: bool [n], True where Keras is right.
        artifact_correct: bool [n], True where the artifact is right.
        confidence: Confidence of the two-sided interval, between 0 and 1.

    Returns:
        Lower and upper end in percentage points; positive is a loss.

    Raises:
        ValueError: The arrays differ in length or are empty.
    """
    lost, gained, total = _discordant(keras_correct, artifact_correct)
    z, observed = normal_quantile(confidence), (lost - gained) / total
    # The statistic falls from +infinity at -1 to -infinity at 1, so each end is a single crossing of +z or -z.
    low = _crossing(lambda drop: _tango(lost, gained, total, drop) > z, -1.0, observed)
    high = _crossing(lambda drop: _tango(lost, gained, total, drop) > -z, observed, 1.0)
    return 100 * low, 100 * high


def mcnemar_p(keras_correct: NDArray[np.bool_], artifact_correct: NDArray[np.bool_]) -> float:
    """Compute the p value of McNemar's exact test of equal accuracy of Keras and the artifact.

    Two-sided binomial test on the images that only one of them has right. Source: Q. McNemar, Psychometrika 12 (1947)
    153-157; the exact form as in Fagerland, Lydersen and Laake, BMC Medical Research Methodology 13 (2013) 91.

    Args:
        keras_correct: bool [n], True where Keras is right.
        artifact_correct: bool [n], True where the artifact is right.

    Returns:
        P value, 0..1; 1 where both are right on the same images.

    Raises:
        ValueError: The arrays differ in length or are empty.
    """
    lost, gained, _ = _discordant(keras_correct, artifact_correct)
    pairs = lost + gained
    # Integers, because both sides exceed the range of floats from a thousand pairs on.
    tail = sum(math.comb(pairs, count) for count in range(min(lost, gained) + 1))
    return float(min(1.0, 2 * tail / 2**pairs))


def _discordant(keras_correct: NDArray[np.bool_], artifact_correct: NDArray[np.bool_]) -> tuple[int, int, int]:
    """Count images that only Keras has right, that only the artifact has right, and all."""
    if keras_correct.shape != artifact_correct.shape or not len(keras_correct):
        raise ValueError(
            f"expected as many answers of both models, at least one, got {keras_correct.shape} and "
            f"{artifact_correct.shape}"
        )
    lost = int(np.count_nonzero(keras_correct & ~artifact_correct))
    gained = int(np.count_nonzero(artifact_correct & ~keras_correct))
    return lost, gained, len(keras_correct)


def _tango(lost: int, gained: int, total: int, drop: float) -> float:
    """Compute Tango's statistic for a hypothetical drop: observed minus expected, over the standard error.

    ``q`` is the maximum-likelihood share of images that only the artifact has right, given ``drop``.
    """
    b = (2 * total - lost + gained) * drop - lost - gained
    c = -gained * drop * (1 - drop)
    q = (math.sqrt(max(0.0, b * b - 8 * total * c)) - b) / (4 * total)
    variance = total * (2 * q + drop * (1 - drop))
    distance = lost - gained - total * drop
    if variance <= 0:
        return math.copysign(math.inf, distance) if distance else 0.0
    return distance / math.sqrt(variance)


def _crossing(is_before: Callable[[float], bool], low: float, high: float) -> float:
    """Bisect for the value at which ``is_before`` turns from true to false."""
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if is_before(middle) else (low, middle)
    return (low + high) / 2


def expected_calibration_error(
    probabilities: NDArray[np.floating],
    truth: NDArray[np.integer],
    bins: int = 15,
    *,
    answers: NDArray[np.integer] | None = None,
) -> float:
    """Compute the mean distance between the score of answers and the share of right answers at that score.

    Bins of equal width, each weighted by its images. Source: C. Guo, G. Pleiss, Y. Sun and K. Weinberger, "On
    calibration of modern neural networks", ICML 2017, which takes 15 bins.

    Args:
        probabilities: [n, labels], 0..1.
        truth: int [n], label index.
        bins: Number of bins, at least 1.
        answers: int [n], label indices of the answers; None takes the largest probability.

    Returns:
        Expected calibration error, 0..1.

    Raises:
        ValueError: There are no images or no bins.
    """
    if not len(truth) or bins < 1:
        raise ValueError(f"expected images and bins, got {len(truth)} and {bins}")
    chosen = np.argmax(probabilities, axis=1) if answers is None else answers
    scores = probabilities[np.arange(len(truth)), chosen].astype(np.float64)
    index = np.clip((scores * bins).astype(np.intp), 0, bins - 1)
    score_sums = np.bincount(index, scores, minlength=bins)
    right_sums = np.bincount(index, (chosen == truth).astype(np.float64), minlength=bins)
    return float(np.abs(score_sums - right_sums).sum() / len(truth))
