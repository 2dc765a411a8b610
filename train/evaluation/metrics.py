"""Right and wrong answers as figures, each with a 95 % interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_runtime.statistics.intervals import wilson_interval


@dataclass(frozen=True)
class ClassScores:
    """One class; scores are shares 0..1, and 0 where there is nothing to divide by.

    Attributes:
        label: Its name.
        images: Pictures that are of it.
        precision: Share of right ones among the answers that name it.
        precision_low, precision_high: Ends of its 95 % interval (Wilson); so for the two below.
        recall: Share of its pictures that are answered right.
        f1: Harmonic mean of both; its interval is Wilson's, see `f1_interval`.
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
    """Means over the classes of which there are pictures, 0..1."""

    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class Scores:
    """One part of the set.

    Attributes:
        images: Number of pictures.
        accuracy: Share of right answers.
        accuracy_low: Lower end of its 95 % interval.
        accuracy_high: Upper end.
        macro: Means in which each class counts the same.
        weighted: Means in which each picture counts the same.
        classes: One per label.
        confusion: Rows are true labels, columns are answers, both in label order.
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
    """Compare answers with the truth.

    Args:
        answers: [n], class indices.
        targets: [n], class indices.
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
    """Wilson's 95 % interval of a share; of nothing at all, everything is possible."""
    return wilson_interval(hits, total) if total else (0.0, 1.0)


def f1_interval(hits: int, images: int, named: int) -> tuple[float, float]:
    """95 % interval of F1, by Wilson's for hits / (hits + misses + false alarms).

    That share s is a plain proportion, and F1 = 2 s / (1 + s) rises with it, so the ends carry over
    ("Wilson indirect", arXiv:2309.14621).

    Args:
        hits: Right answers that name the class.
        images: Pictures of the class.
        named: Answers that name the class.
    """
    low, high = _interval(hits, images + named - hits)
    return 2 * low / (1 + low), 2 * high / (1 + high)


def _score_class(label: str, hits: int, images: int, named: int) -> ClassScores:
    precision = hits / named if named else 0.0
    recall = hits / images if images else 0.0
    f1 = 2 * hits / (images + named) if images + named else 0.0
    return ClassScores(
        label,
        images,
        precision,
        *_interval(hits, named),
        recall,
        *_interval(hits, images),
        f1,
        *f1_interval(hits, images, named),
    )


def _averages(classes: Sequence[ClassScores], weights: Sequence[int]) -> Averages:
    total = sum(weights)
    if not total:
        return Averages(0.0, 0.0, 0.0)

    def mean(values: Sequence[float]) -> float:
        return sum(value * weight for value, weight in zip(values, weights, strict=True)) / total

    return Averages(
        mean([entry.precision for entry in classes]),
        mean([entry.recall for entry in classes]),
        mean([entry.f1 for entry in classes]),
    )
