"""Whether scores can be taken for probabilities."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def expected_calibration_error(
    probabilities: NDArray[np.floating],
    truth: NDArray[np.integer],
    bins: int = 15,
    *,
    answers: NDArray[np.integer] | None = None,
) -> float:
    """Mean distance between the score of an answer and the share of right ones among answers of such a score.

    Bins of equal width, each weighted by its pictures. Source: C. Guo, G. Pleiss, Y. Sun and K. Weinberger, "On
    calibration of modern neural networks", ICML 2017, which takes 15 bins.

    Args:
        probabilities: [n, labels], 0..1.
        truth: int [n], label index.
        bins: At least 1.
        answers: int [n], the answers' label indices; None takes the largest probability.

    Returns:
        0..1.

    Raises:
        ValueError: No pictures, or no bins.
    """
    if not len(truth) or bins < 1:
        raise ValueError(f"expected pictures and bins, got {len(truth)} and {bins}")
    chosen = np.argmax(probabilities, axis=1) if answers is None else answers
    scores = probabilities[np.arange(len(truth)), chosen].astype(np.float64)
    index = np.clip((scores * bins).astype(np.intp), 0, bins - 1)
    score_sums = np.bincount(index, scores, minlength=bins)
    right_sums = np.bincount(index, (chosen == truth).astype(np.float64), minlength=bins)
    return float(np.abs(score_sums - right_sums).sum() / len(truth))
