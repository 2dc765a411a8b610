"""Thresholds: from when a sigmoid neuron says yes, and under which score an answer is better not believed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

HALF = 0.5
KEPT_SHARE = 0.95
# An 8-bit export's highest score is 255/256, and its softmax rarely reaches it: a threshold above rejects everything.
_MAX_REJECT_THRESHOLD = 0.98


@dataclass(frozen=True)
class ThresholdScores:
    """What a sigmoid head does at one threshold, about its second label; shares 0..1, 0 where nothing can be divided.

    Attributes:
        threshold: Probability of the second label from which it is the answer.
        precision: Share of right ones among its answers.
        recall: Share of its pictures that are found.
        f1: Harmonic mean of both.
        accuracy: Share of right answers of both labels.
    """

    threshold: float
    precision: float
    recall: float
    f1: float
    accuracy: float


@dataclass(frozen=True)
class Rejection:
    """What comes of not believing answers under a score.

    Attributes:
        threshold: The score; 0 believes all.
        coverage: Share of the test pictures whose answer is kept, 0..1.
        kept_accuracy: Share of right ones among the kept answers, 0..1; 0 where none is kept.
        wrong: Wrong answers on the test pictures.
        wrong_rejected: How many of them are rejected.
        right_rejected: Right answers that are rejected.
    """

    threshold: float
    coverage: float
    kept_accuracy: float
    wrong: int
    wrong_rejected: int
    right_rejected: int


def best_f1_threshold(scores: NDArray[np.float32], is_second: NDArray[np.bool_]) -> float:
    """The threshold with the highest F1; among equals the nearest to 0.5.

    Thresholds lie half-way between neighbouring scores, so that no rounding moves an answer across.

    Args:
        scores: float32 [n], probability of the second label.
        is_second: bool [n], the truth.
    """
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order].astype(np.float64)
    between = np.flatnonzero(np.diff(ranked))  # the last row of each run of equal scores
    candidates = np.append((ranked[between] + ranked[between + 1]) / 2, HALF)
    named = np.searchsorted(-ranked, -candidates, side="right")
    hits = np.append(0, np.cumsum(is_second[order]))[named]
    f1 = 2 * hits / np.maximum(named + is_second.sum(), 1)
    best = candidates[f1 >= f1.max() - 1e-12]
    return float(best[np.argmin(np.abs(best - HALF))])


def scores_at(threshold: float, scores: NDArray[np.float32], is_second: NDArray[np.bool_]) -> ThresholdScores:
    """Measure a threshold.

    Args:
        threshold: Probability of the second label.
        scores: float32 [n].
        is_second: bool [n], the truth.
    """
    says_second = scores >= threshold
    hits, named, images = int((says_second & is_second).sum()), int(says_second.sum()), int(is_second.sum())
    return ThresholdScores(
        threshold,
        hits / max(named, 1),
        hits / max(images, 1),
        2 * hits / max(named + images, 1),
        float((says_second == is_second).mean()) if len(scores) else 0.0,
    )


def reject_threshold(scores: NDArray[np.float32], is_right: NDArray[np.bool_]) -> float:
    """The score under which at most 5 % of the right answers fall, and never above 0.98; 0 where none is right.

    Args:
        scores: float32 [n], probability of each answer, of pictures that had no part in training.
        is_right: bool [n].
    """
    right = scores[is_right]
    if not len(right):
        return 0.0
    return min(float(np.quantile(right, 1 - KEPT_SHARE, method="lower")), _MAX_REJECT_THRESHOLD)


def rejection(threshold: float, scores: NDArray[np.float32], is_right: NDArray[np.bool_]) -> Rejection:
    """Measure a reject threshold.

    Args:
        threshold: From `reject_threshold`.
        scores: float32 [n], probability of each answer.
        is_right: bool [n].
    """
    is_kept = scores >= threshold
    kept = int(is_kept.sum())
    return Rejection(
        threshold,
        kept / max(len(scores), 1),
        int((is_kept & is_right).sum()) / max(kept, 1),
        int((~is_right).sum()),
        int((~is_right & ~is_kept).sum()),
        int((is_right & ~is_kept).sum()),
    )
