"""How well the scores of a class rank its pictures before all others, whatever the threshold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MAX_CURVE_POINTS = 200


@dataclass(frozen=True)
class Ranking:
    """One class against all others.

    Attributes:
        label: The class.
        roc_auc: Area under the ROC curve: how often a picture of the class scores higher than one of another, 0..1.
            None where the part holds no picture of the class, or no other.
        average_precision: Mean precision over all recalls, 0..1; None likewise.
        roc_xy: float64 [points, 2], false alarm share and recall, thinned for drawing; empty likewise.
        precision_recall_xy: float64 [points, 2], recall and precision, likewise.
    """

    label: str
    roc_auc: float | None
    average_precision: float | None
    roc_xy: NDArray[np.float64]
    precision_recall_xy: NDArray[np.float64]


def rank(probabilities: NDArray[np.float32], targets: NDArray[np.int64], labels: Sequence[str]) -> tuple[Ranking, ...]:
    """Rank one part of the set, class by class.

    Args:
        probabilities: float32 [n, labels].
        targets: int64 [n], class indices.
        labels: Names of the classes.
    """
    return tuple(_rank(label, probabilities[:, i], targets == i) for i, label in enumerate(labels))


def mean_ranking(values: Sequence[float | None]) -> float | None:
    """Mean over the classes that have a value; None where none has."""
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
        # The curve begins where everything is named, at recall 1; drawings begin at 0.
        _thin(recall[::-1], precision[::-1]),
    )


def _thin(x: NDArray[Any], y: NDArray[Any]) -> NDArray[np.float64]:
    chosen = np.unique(np.linspace(0, len(x) - 1, min(len(x), _MAX_CURVE_POINTS)).round().astype(np.intp))
    return np.stack([x[chosen], y[chosen]], axis=1).astype(np.float64)
