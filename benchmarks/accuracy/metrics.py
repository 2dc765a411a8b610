"""How often a model is right, from its probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.records.accuracy import Accuracy, LabelShare, Reject
from benchmarks.statistics import share_of
from edge_runtime.contract import OutputSpec
from edge_runtime.decision import top1
from edge_runtime.errors import EngineError
from edge_runtime.statistics.calibration import expected_calibration_error

TOP_FEW = 5
# A softmax of floats may miss 0 or 1 by a rounding; a logit misses them by far.
_ROUNDING = 1e-3


def accuracy_of(
    probabilities: NDArray[np.float32], truth: NDArray[np.integer], labels: Sequence[str], output: OutputSpec
) -> Accuracy:
    """Count what a model has right; its answers are those that the device would give.

    Args:
        probabilities: float32 [n, labels].
        truth: int [n], label index of each picture.
        labels: In output order.
        output: How probabilities become an answer.

    Raises:
        EngineError: No such probabilities; see `check_probabilities`.
        ValueError: No pictures.
    """
    check_probabilities(probabilities, labels, len(truth))
    answers = top1(probabilities, output)
    is_right = answers == truth
    return Accuracy(
        top1=share_of(int(is_right.sum()), len(truth)),
        top5=(
            share_of(int(_in_top_few(probabilities, answers, truth).sum()), len(truth))
            if len(labels) > TOP_FEW
            else None
        ),
        per_label=_per_label(is_right, truth, labels),
        calibration_error=min(1.0, expected_calibration_error(probabilities, truth, answers=answers)),
        reject=_reject(scores_of(probabilities, answers), is_right, output.reject_threshold),
    )


def check_probabilities(probabilities: NDArray[np.floating], labels: Sequence[str], images: int | None = None) -> None:
    """Check what a measuring process wrote before anything is counted from it.

    Args:
        probabilities: [images, labels] if all is well.
        labels: Of the model.
        images: How many pictures it was asked about, or None for any number.

    Raises:
        EngineError: Another shape or type, or values that are no probabilities.
    """
    expected = f"[{'n' if images is None else images}, {len(labels)}]"
    if (
        probabilities.dtype.kind != "f"
        or probabilities.ndim != 2
        or probabilities.shape[1] != len(labels)
        or images not in (None, len(probabilities))
    ):
        found = f"{probabilities.dtype} {list(probabilities.shape)}"
        raise EngineError(f"expected probabilities, float {expected}, got {found}; convert the model again")
    are_finite = np.isfinite(probabilities).all(axis=1)
    if not are_finite.all():
        raise EngineError(
            f"gives values that are not numbers for {np.count_nonzero(~are_finite)} of {len(probabilities)} pictures, "
            "so that nothing can be said about its accuracy; convert the model again"
        )
    low, high = probabilities.min(initial=0.0), probabilities.max(initial=0.0)
    if low < -_ROUNDING or high > 1 + _ROUNDING:
        raise EngineError(
            f"expected probabilities of 0 to 1, got values from {low:.4g} to {high:.4g}; convert the model again, "
            "with the softmax or sigmoid inside it"
        )


def scores_of(probabilities: NDArray[np.float32], answers: NDArray[np.int64]) -> NDArray[np.float64]:
    """Score of each answer, 0..1: float64 [n], for float32 [n, labels] and int64 [n].

    As doubles, because the device compares a score with the reject threshold as such, see `Classifier.is_rejected`.
    """
    scores = probabilities[np.arange(len(answers)), answers].astype(np.float64)
    return np.clip(scores, 0.0, 1.0)


def _in_top_few(
    probabilities: NDArray[np.float32], answers: NDArray[np.int64], truth: NDArray[np.integer]
) -> NDArray[np.bool_]:
    """Whether each label is among the best five as `Classifier.rank` orders them: the answer, then by score.

    Equal scores rank in label order. Counted, not sorted: of each picture only the place of one label matters.
    """
    rows, indices = np.arange(len(truth)), np.arange(probabilities.shape[1])
    own = probabilities[rows, truth][:, np.newaxis]
    is_ahead = (probabilities > own) | ((probabilities == own) & (indices < truth[:, np.newaxis]))
    is_ahead[rows, answers] = True
    in_few: NDArray[np.bool_] = (answers == truth) | (is_ahead.sum(axis=1) < TOP_FEW)
    return in_few


def _per_label(
    is_right: NDArray[np.bool_], truth: NDArray[np.integer], labels: Sequence[str]
) -> tuple[LabelShare, ...]:
    totals = np.bincount(truth, minlength=len(labels))
    hits = np.bincount(truth[is_right], minlength=len(labels))
    return tuple(
        LabelShare(label, share_of(int(hit), int(total)))
        for label, hit, total in zip(labels, hits, totals, strict=True)
        if total
    )


def _reject(scores: NDArray[np.float64], is_right: NDArray[np.bool_], threshold: float) -> Reject | None:
    if not threshold:
        return None
    is_kept = scores >= threshold
    kept = int(is_kept.sum())
    right = share_of(int(is_right[is_kept].sum()), kept) if kept else None
    return Reject(threshold, share_of(kept, len(scores)), right)
