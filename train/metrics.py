"""Figures about predictions, in plain NumPy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_Z_95 = 1.959964


@dataclass(frozen=True)
class ClassScores:
    """One class: number of pictures that are of it, and scores 0..1 (0 where there is nothing to divide by)."""

    label: str
    images: int
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
        classes: One per label.
        confusion: Rows are true labels, columns are answers, both in label order.
    """

    images: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
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
    low, high = wilson_interval(right, images)
    classes = tuple(
        _score_class(label, int(confusion[i, i]), int(confusion[i].sum()), int(confusion[:, i].sum()))
        for i, label in enumerate(labels)
    )
    rows = tuple(tuple(int(count) for count in row) for row in confusion)
    return Scores(images, right / images if images else 0.0, low, high, classes, rows)


def wilson_interval(right: int, total: int) -> tuple[float, float]:
    """95 % interval of a share, which holds for few pictures too (Wilson 1927, doi:10.1080/01621459.1927.10502953)."""
    if total == 0:
        return 0.0, 1.0
    share, z2 = right / total, _Z_95**2
    center = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = _Z_95 / (1 + z2 / total) * math.sqrt(share * (1 - share) / total + z2 / (4 * total**2))
    return max(0.0, center - half), min(1.0, center + half)


def _score_class(label: str, hits: int, images: int, answers: int) -> ClassScores:
    precision = hits / answers if answers else 0.0
    recall = hits / images if images else 0.0
    f1 = 2 * hits / (images + answers) if images + answers else 0.0
    return ClassScores(label, images, precision, recall, f1)
