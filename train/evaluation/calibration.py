"""Temperature calibration of the scores, and the thresholds for decisions and rejection.

Guo et al., "On Calibration of Modern Neural Networks", arXiv:1706.04599.

Arguments of all functions: ``logits`` [n, labels]; ``targets`` int64 [n], class indices; ``scores`` float32 [n], 0..1,
probability of the answer, or of the second label of a sigmoid head; ``is_right`` bool [n], True for right answers;
``is_second`` bool [n], True for images of the second label.
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
HALF = 0.5
KEPT_SHARE = 0.95
# The highest score of an 8-bit export is 255/256 and rarely reached: a higher threshold would reject everything.
_MAX_REJECT_THRESHOLD = 0.98


@dataclass(frozen=True)
class ReliabilityBin:
    """Answers with a score in one interval.

    Attributes:
        images: Number of answers.
        mean_score: Mean score, 0..1; 0 without answers.
        accuracy: Share of right answers, 0..1; 0 without answers.
    """

    images: int
    mean_score: float
    accuracy: float


@dataclass(frozen=True)
class Reliability:
    """Agreement of scores with the share of right answers.

    Attributes:
        error: Expected calibration error: mean gap between score and share of right answers, 0..1.
        bins: `BINS` intervals of equal width from 0 to 1.
    """

    error: float
    bins: tuple[ReliabilityBin, ...]


@dataclass(frozen=True)
class Calibration:
    """Effect of the temperature.

    Attributes:
        temperature: Divisor of the logits; 1 changes nothing.
        validation_nll_before: Mean negative log-likelihood of the validation images in nats; 0 without images.
        validation_nll_after: Mean negative log-likelihood with the temperature, in nats.
        test_before: Reliability on the test images, which are not used for the fit.
        test_after: Reliability on the test images with the temperature.
    """

    temperature: float
    validation_nll_before: float
    validation_nll_after: float
    test_before: Reliability
    test_after: Reliability


def log_softmax(logits: NDArray[np.floating], temperature: float = 1.0) -> NDArray[np.float64]:
    """Compute log probabilities, float64 [n, labels], from logits [n, labels]."""
    scaled = logits.astype(np.float64) / temperature
    scaled -= scaled.max(axis=1, keepdims=True)
    return scaled - np.log(np.exp(scaled).sum(axis=1, keepdims=True))


def nll(logits: NDArray[np.floating], targets: NDArray[np.int64], temperature: float = 1.0) -> float:
    """Compute the mean negative log-likelihood in nats; 0 without images."""
    if not len(targets):
        return 0.0
    return float(-log_softmax(logits, temperature)[np.arange(len(targets)), targets].mean())


def fit_temperature(logits: NDArray[np.floating], targets: NDArray[np.int64]) -> float:
    """Fit the temperature that maximises the likelihood of some images; 1 without a significant gain.

    If all of a few images are answered right, the likelihood grows towards temperature 0. So the fit adds one image
    with uniform class probabilities: n right answers of n support at most n of n + 1. The result is between
    `MIN_TEMPERATURE` and `MAX_TEMPERATURE`. The gain is significant if its mean in log-likelihood is above its
    standard error; a smaller one may be chance. The images must not have been used for training.
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
    """Divide kernel and bias of the last layer by the temperature, for softmax and sigmoid alike."""
    layer.set_weights([weight / np.float32(temperature) for weight in layer.get_weights()])


def check_folded(outputs: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    """Check that the folded model gives the reported probabilities.

    Args:
        outputs: float32 [n, d], outputs of the folded model.
        expected: float32 [n, d], probabilities by formula.

    Raises:
        EdgeKitError: An output differs by more than 1e-4.
    """
    gap = float(np.abs(outputs - expected).max(initial=0.0))
    if not gap <= _FOLD_TOLERANCE:
        raise EdgeKitError(
            f"the calibrated model's probabilities are {gap:.2g} off, expected at most {_FOLD_TOLERANCE:g}; this is a "
            "bug in edgekit, please report it; --set head.calibrate=false skips calibration"
        )


def reliability(scores: NDArray[np.floating], is_right: NDArray[np.bool_]) -> Reliability:
    """Compare the scores of answers with the share of right ones."""
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


@dataclass(frozen=True)
class ThresholdScores:
    """Metrics of the second label of a sigmoid head at one threshold, 0..1; 0 for a division by zero.

    Attributes:
        threshold: Lowest probability of the second label at which it is the answer.
        precision: Share of right answers among those that name the label.
        recall: Share of the images of the label that are found.
        f1: Harmonic mean of precision and recall.
        accuracy: Share of right answers of both labels.
    """

    threshold: float
    precision: float
    recall: float
    f1: float
    accuracy: float


@dataclass(frozen=True)
class Rejection:
    """Effect of rejecting answers below a score.

    Attributes:
        threshold: Lowest score that is kept; 0 keeps all answers.
        coverage: Share of the test images whose answer is kept, 0..1.
        kept_accuracy: Share of right answers among those kept, 0..1; 0 if none is kept.
        wrong: Number of wrong answers on the test images.
        wrong_rejected: Number of wrong answers that are rejected.
        right_rejected: Number of right answers that are rejected.
    """

    threshold: float
    coverage: float
    kept_accuracy: float
    wrong: int
    wrong_rejected: int
    right_rejected: int


def best_f1_threshold(scores: NDArray[np.float32], is_second: NDArray[np.bool_]) -> float:
    """Find the threshold with the highest F1; of equal ones that nearest to 0.5.

    Thresholds are midpoints of neighbouring scores, so that rounding does not change an answer.
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
    """Compute the metrics of the second label, the answer from ``threshold`` on."""
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
    """Choose a reject threshold that keeps 95 % of the right answers, at most 0.98; 0 without right answers.

    The images must not have been used for training.
    """
    right = scores[is_right]
    if not len(right):
        return 0.0
    return min(float(np.quantile(right, 1 - KEPT_SHARE, method="lower")), _MAX_REJECT_THRESHOLD)


def rejection(threshold: float, scores: NDArray[np.float32], is_right: NDArray[np.bool_]) -> Rejection:
    """Measure the effect of a threshold from `reject_threshold`."""
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
