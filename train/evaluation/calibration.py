"""Temperature calibration of the scores, and the thresholds for decisions and rejection.

Guo et al., "On Calibration of Modern Neural Networks", arXiv:1706.04599.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import EdgeKitError

BINS = 15
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.25, 8.0
_MIN_IMAGES = 10
_FOLD_TOLERANCE = 1e-4


@dataclass(frozen=True)
class ReliabilityBin:
    """Answers whose score lies in one interval.

    Attributes:
        images: How many.
        mean_score: Mean of their scores, 0..1; 0 where there are none.
        accuracy: Share of right ones, 0..1; 0 where there are none.
    """

    images: int
    mean_score: float
    accuracy: float


@dataclass(frozen=True)
class Reliability:
    """How far scores can be taken for shares of right answers.

    Attributes:
        error: Expected calibration error: the mean gap between score and share of right answers, 0..1.
        bins: `BINS` intervals of equal width from 0 to 1.
    """

    error: float
    bins: tuple[ReliabilityBin, ...]


@dataclass(frozen=True)
class Calibration:
    """What the temperature did.

    Attributes:
        temperature: What the last layer's outputs were divided by; 1 leaves them.
        validation_nll_before: Mean negative log-likelihood of the validation images, in nats; 0 without images.
        validation_nll_after: The same with the temperature.
        test_before: On the test images, which had no part in it.
        test_after: The same with the temperature.
    """

    temperature: float
    validation_nll_before: float
    validation_nll_after: float
    test_before: Reliability
    test_after: Reliability


def log_softmax(logits: NDArray[np.floating], temperature: float = 1.0) -> NDArray[np.float64]:
    """Logarithms of the probabilities, float64 [n, labels], for logits [n, labels]."""
    scaled = logits.astype(np.float64) / temperature
    scaled -= scaled.max(axis=1, keepdims=True)
    return scaled - np.log(np.exp(scaled).sum(axis=1, keepdims=True))


def nll(logits: NDArray[np.floating], targets: NDArray[np.int64], temperature: float = 1.0) -> float:
    """Mean negative log-likelihood in nats; 0 without images."""
    if not len(targets):
        return 0.0
    return float(-log_softmax(logits, temperature)[np.arange(len(targets)), targets].mean())


def fit_temperature(logits: NDArray[np.floating], targets: NDArray[np.int64]) -> float:
    """The temperature that makes the scores of some images most likely; 1 where none is clearly better.

    Few images, all answered right, would ask for a temperature of 0, as if the network could never be wrong. So the
    fit counts one more image, whose class could be any: n right answers of n speak for n of n + 1, no more. The
    result lies between `MIN_TEMPERATURE` and `MAX_TEMPERATURE`. It is clearly better where the mean gain in
    log-likelihood is above its own standard error; less may be chance, and would do as much harm elsewhere.

    Args:
        logits: [n, labels], of images that had no part in training.
        targets: int64 [n], class indices.
    """
    from scipy.optimize import minimize_scalar

    if len(targets) < _MIN_IMAGES:
        return 1.0
    data = np.arange(len(targets))
    doubt = 1.0 / (len(targets) + 1)

    def cost(log_temperature: float) -> float:
        logarithms = log_softmax(logits, float(np.exp(log_temperature)))
        right = logarithms[data, targets]
        return float(-((1 - doubt) * right + doubt * logarithms.mean(axis=1)).mean())

    bounds = (float(np.log(MIN_TEMPERATURE)), float(np.log(MAX_TEMPERATURE)))
    found = minimize_scalar(cost, bounds=bounds, method="bounded", options={"xatol": 1e-4})
    temperature = float(np.exp(found.x))
    gains = (log_softmax(logits, temperature) - log_softmax(logits))[data, targets]
    return temperature if gains.mean() > gains.std(ddof=1) / np.sqrt(len(gains)) else 1.0


def fold(layer: Any, temperature: float) -> None:
    """Divide the last layer's kernel and bias by the temperature; softmax and sigmoid alike then give its scores."""
    layer.set_weights([weight / np.float32(temperature) for weight in layer.get_weights()])


def check_folded(outputs: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    """Make sure that the folded model gives the probabilities that the report is about.

    Args:
        outputs: float32 [n, d], of the folded model.
        expected: float32 [n, d], by formula.

    Raises:
        EdgeKitError: It does not.
    """
    gap = float(np.abs(outputs - expected).max(initial=0.0))
    if not gap <= _FOLD_TOLERANCE:
        raise EdgeKitError(
            f"the calibrated model's probabilities are {gap:.2g} off, expected at most {_FOLD_TOLERANCE:g}; this is a "
            "mistake in edgekit, please report it; --set head.calibrate=false goes without"
        )


def reliability(scores: NDArray[np.floating], is_right: NDArray[np.bool_]) -> Reliability:
    """Compare the scores of answers with the share of right ones.

    Args:
        scores: [n], probability of each answer, 0..1.
        is_right: bool [n].
    """
    index = np.minimum((scores * BINS).astype(np.intp), BINS - 1)
    images = np.bincount(index, minlength=BINS)
    score_sums = np.bincount(index, scores.astype(np.float64), minlength=BINS)
    right_sums = np.bincount(index, is_right.astype(np.float64), minlength=BINS)
    bins = tuple(
        ReliabilityBin(int(n), float(score / max(n, 1)), float(right / max(n, 1)))
        for n, score, right in zip(images, score_sums, right_sums, strict=True)
    )
    error = float(np.abs(score_sums - right_sums).sum() / max(len(scores), 1))
    return Reliability(error, bins)


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
        recall: Share of its images that are found.
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
        coverage: Share of the test images whose answer is kept, 0..1.
        kept_accuracy: Share of right ones among the kept answers, 0..1; 0 where none is kept.
        wrong: Wrong answers on the test images.
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
        scores: float32 [n], probability of each answer, of images that had no part in training.
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
