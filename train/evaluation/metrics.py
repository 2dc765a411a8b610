"""Classification metrics with 95 % intervals, and ranking curves of each class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.workstation.statistics import wilson_interval

_MAX_CURVE_POINTS = 200


@dataclass(frozen=True)
class ClassScores:
    """Metrics of one class, 0..1; 0 for a division by zero.

    Attributes:
        label: Name of the class.
        images: Number of images of the class.
        precision: Share of right answers among those that name the class.
        precision_low, precision_high: Ends of the 95 % interval (Wilson), likewise for recall and F1.
        recall: Share of the images of the class that are answered right.
        f1: Harmonic mean of precision and recall; see `f1_interval` for its interval.
    """

    label: str
    images: int
    precision: float
    precision_low: float
    precision_high: float
    recall: float
    recall_low: float
    recall_high: float
    f1: float
    f1_low: float
    f1_high: float


@dataclass(frozen=True)
class Averages:
    """Means over the classes with images, 0..1."""

    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class Scores:
    """Metrics of one split.

    Attributes:
        images: Number of images.
        accuracy: Share of right answers, 0..1.
        accuracy_low: Lower end of the 95 % interval of accuracy.
        accuracy_high: Upper end of the 95 % interval of accuracy.
        macro: Means with equal weight of each class.
        weighted: Means with equal weight of each image.
        classes: Metrics by label, in label order.
        confusion: Counts by true label (rows) and answer (columns), in label order.
    """

    images: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    macro: Averages
    weighted: Averages
    classes: tuple[ClassScores, ...]
    confusion: tuple[tuple[int, ...], ...]


def score(answers: NDArray[np.integer], targets: NDArray[np.integer], labels: Sequence[str]) -> Scores:
    """Compute classification metrics.

    Args:
        answers: Predicted class indices [n].
        targets: True class indices [n].
        labels: Names of the classes.
    """
    confusion = np.zeros((len(labels), len(labels)), np.int64)
    np.add.at(confusion, (targets, answers), 1)
    right, images = int(np.trace(confusion)), len(targets)
    low, high = _interval(right, images)
    of_label, named = confusion.sum(axis=1), confusion.sum(axis=0)
    classes = tuple(
        _score_class(label, int(confusion[i, i]), int(of_label[i]), int(named[i])) for i, label in enumerate(labels)
    )
    present = [entry for entry in classes if entry.images]
    macro = _averages(present, [1] * len(present))
    weighted = _averages(present, [entry.images for entry in present])
    rows = tuple(tuple(row) for row in confusion.tolist())
    return Scores(images, right / images if images else 0.0, low, high, macro, weighted, classes, rows)


def _interval(hits: int, total: int) -> tuple[float, float]:
    """Compute Wilson's 95 % interval of a share; 0 to 1 without observations."""
    return wilson_interval(hits, total) if total else (0.0, 1.0)


def f1_interval(hits: int, images: int, named: int) -> tuple[float, float]:
    """Compute the 95 % interval of F1 from Wilson's interval of s = hits / (hits + misses + false alarms).

    The share s is a proportion and F1 = 2 s / (1 + s) increases with it, so the ends of the interval transform
    ("Wilson indirect", arXiv:2309.14621).

    Args:
        hits: Number of right answers that name the class.
        images: Number of images of the class.
        named: Number of answers that name the class.
    """
    low, high = _interval(hits, images + named - hits)
    return 2 * low / (1 + low), 2 * high / (1 + high)


def _score_class(label: str, hits: int, images: int, named: int) -> ClassScores:
    precision = hits / named if named else 0.0
    recall = hits / images if images else 0.0
    f1 = 2 * hits / (images + named) if images + named else 0.0
    intervals = _interval(hits, named), _interval(hits, images), f1_interval(hits, images, named)
    return ClassScores(label, images, precision, *intervals[0], recall, *intervals[1], f1, *intervals[2])


def _averages(classes: Sequence[ClassScores], weights: Sequence[int]) -> Averages:
    if not classes:
        return Averages(0.0, 0.0, 0.0)
    values = [(entry.precision, entry.recall, entry.f1) for entry in classes]
    return Averages(*np.average(values, axis=0, weights=weights).tolist())


@dataclass(frozen=True)
class Ranking:
    """Ranking of one class against all others.

    Attributes:
        label: Name of the class.
        roc_auc: Area under the ROC curve, 0..1: probability that an image of the class scores higher than one of
            another class. None if the split has no image of the class, or no other.
        average_precision: Mean precision over all recalls, 0..1, or None.
        roc_xy: float64 [points, 2], false positive rate and recall, thinned for plots; empty if undefined.
        precision_recall_xy: float64 [points, 2], recall and precision, thinned; empty if undefined.
    """

    label: str
    roc_auc: float | None
    average_precision: float | None
    roc_xy: NDArray[np.float64]
    precision_recall_xy: NDArray[np.float64]


def rank(probabilities: NDArray[np.float32], targets: NDArray[np.int64], labels: Sequence[str]) -> tuple[Ranking, ...]:
    """Compute the ranking curves of each class.

    Args:
        probabilities: float32 [n, labels], outputs of the model.
        targets: int64 [n], class indices.
        labels: Names of the classes.
    """
    return tuple(_rank(label, probabilities[:, i], targets == i) for i, label in enumerate(labels))


def mean_ranking(values: Sequence[float | None]) -> float | None:
    """Average the values of the classes that have one; None if none has."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _rank(label: str, scores: NDArray[np.float32], is_label: NDArray[np.bool_]) -> Ranking:
    from sklearn.metrics import auc, average_precision_score, precision_recall_curve, roc_curve

    if not is_label.any() or is_label.all():
        nothing = np.zeros((0, 2))
        return Ranking(label, None, None, nothing, nothing)
    false_alarms, recalls, _ = roc_curve(is_label, scores)
    precision, recall, _ = precision_recall_curve(is_label, scores, drop_intermediate=True)
    return Ranking(
        label,
        float(auc(false_alarms, recalls)),
        float(average_precision_score(is_label, scores)),
        _thin(false_alarms, recalls),
        # scikit-learn orders the curve from recall 1 to 0.
        _thin(recall[::-1], precision[::-1]),
    )


def _thin(x: NDArray[Any], y: NDArray[Any]) -> NDArray[np.float64]:
    chosen = np.unique(np.linspace(0, len(x) - 1, min(len(x), _MAX_CURVE_POINTS)).round().astype(np.intp))
    return np.stack([x[chosen], y[chosen]], axis=1).astype(np.float64)
