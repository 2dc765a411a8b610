"""Accuracy of a model, alone and image by image against Keras."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.records import Accuracy, AgainstKeras, Flip, LabelShare, Moved, Reject
from benchmarks.statistics import Interval, share_of
from edge_runtime.classifier import top1
from edge_runtime.contract import OutputSpec
from edge_runtime.errors import EngineError
from edge_runtime.workstation.statistics import expected_calibration_error, mcnemar_p, paired_drop_interval

TOP_FEW = 5
MAX_MOVED = 20
MAX_FLIPS = 12
# A softmax of floats may miss 0 or 1 by rounding; a logit misses them by far.
_ROUNDING = 1e-3


def accuracy_of(
    probabilities: NDArray[np.float32], truth: NDArray[np.integer], labels: Sequence[str], output: OutputSpec
) -> Accuracy:
    """Compute the accuracy of a model with the answers that the device would give.

    Args:
        probabilities: float32 [n, labels], n at least 1; see `check_probabilities`.
        truth: int [n], label index of each image.
        labels: Label names, in output order.
        output: Rules that turn probabilities into an answer.
    """
    check_probabilities(probabilities, labels, len(truth))
    answers = top1(probabilities, output)
    is_right = answers == truth
    top5 = None
    if len(labels) > TOP_FEW:
        top5 = share_of(int(_in_top_few(probabilities, answers, truth).sum()), len(truth))
    return Accuracy(
        top1=share_of(int(is_right.sum()), len(truth)),
        top5=top5,
        per_label=_per_label(is_right, truth, labels),
        calibration_error=min(1.0, expected_calibration_error(probabilities, truth, answers=answers)),
        reject=_reject(scores_of(probabilities, answers), is_right, output.reject_threshold),
    )


def check_probabilities(probabilities: NDArray[np.floating], labels: Sequence[str], images: int | None = None) -> None:
    """Check the probabilities that a measuring process wrote before anything is computed from them.

    Raises:
        EngineError: Not float [images, labels] (any number of images if None), or values not finite or not in 0..1.
    """
    shape = probabilities.shape
    wanted = (shape[:1] if images is None else (images,)) + (len(labels),)
    if probabilities.dtype.kind != "f" or shape != wanted:
        expected = f"[{'n' if images is None else images}, {len(labels)}]"
        found = f"{probabilities.dtype} {list(shape)}"
        raise EngineError(f"expected probabilities, float {expected}, got {found}; convert the model again")
    are_finite = np.isfinite(probabilities).all(axis=1)
    if not are_finite.all():
        raise EngineError(
            f"gives values that are not numbers for {np.count_nonzero(~are_finite)} of {len(probabilities)} images, "
            "so its accuracy is unknown; convert the model again"
        )
    low, high = probabilities.min(initial=0.0), probabilities.max(initial=0.0)
    if low < -_ROUNDING or high > 1 + _ROUNDING:
        raise EngineError(
            f"expected probabilities of 0 to 1, got values from {low:.4g} to {high:.4g}; convert the model again, "
            "with the softmax or sigmoid inside it"
        )


def scores_of(probabilities: NDArray[np.float32], answers: NDArray[np.int64]) -> NDArray[np.float64]:
    """Look up the score of each answer, 0..1: float32 [n, labels] and int64 [n] to float64 [n].

    Doubles, because the device compares a double with the reject threshold; see `Classifier.is_rejected`.
    """
    scores = probabilities[np.arange(len(answers)), answers].astype(np.float64)
    return np.clip(scores, 0.0, 1.0)


def _in_top_few(
    probabilities: NDArray[np.float32], answers: NDArray[np.int64], truth: NDArray[np.integer]
) -> NDArray[np.bool_]:
    """Tell whether each label is among the best five in the order of `Classifier.rank`: the answer, then by score.

    Equal scores rank in label order. Ranks are counted, not sorted: only one label per image matters.
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
    answered = is_right[scores >= threshold]
    right = share_of(int(answered.sum()), len(answered)) if len(answered) else None
    return Reject(threshold, share_of(len(answered), len(scores)), right)


def against_keras(
    own: NDArray[np.float32],
    keras: NDArray[np.float32],
    truth: NDArray[np.integer],
    labels: Sequence[str],
    files: Sequence[str],
    output: OutputSpec,
) -> AgainstKeras:
    """Compare an artifact's answers with those of Keras to the same images.

    Args:
        own: Probabilities of the artifact, float32 [n, labels], n at least 1; see `check_probabilities`.
        keras: Probabilities of Keras, of the same shape.
        truth: int [n], label index of each image.
        labels: Label names, in output order.
        files: The n image files.
        output: Rules that turn probabilities into an answer.
    """
    for probabilities in (own, keras):
        check_probabilities(probabilities, labels, len(truth))
    answers, keras_answers = top1(own, output), top1(keras, output)
    is_right, is_keras_right = answers == truth, keras_answers == truth
    lost, gained = int((is_keras_right & ~is_right).sum()), int((is_right & ~is_keras_right).sum())
    low, high = paired_drop_interval(is_keras_right, is_right)
    drop_points = 100 * (lost - gained) / len(truth)
    return AgainstKeras(
        agreement=share_of(int((answers == keras_answers).sum()), len(truth)),
        drop_points=drop_points,
        # Tango's ends are bisected, so one that equals the drop may be off by rounding.
        drop_interval_points=Interval(min(low, drop_points), max(high, drop_points)),
        mcnemar_p=mcnemar_p(is_keras_right, is_right),
        lost=lost,
        gained=gained,
        moved=_moved(answers, keras_answers, truth, labels),
        flips=_flips(own, keras, answers, keras_answers, truth, labels, files),
    )


def _moved(
    answers: NDArray[np.int64], keras_answers: NDArray[np.int64], truth: NDArray[np.integer], labels: Sequence[str]
) -> tuple[Moved, ...]:
    """Count the kinds of flips, the most frequent first, ties in label order."""
    is_flip = answers != keras_answers
    kinds = np.stack([truth[is_flip], keras_answers[is_flip], answers[is_flip]], axis=1).tolist()
    counts = Counter((label, keras_answer, answer) for label, keras_answer, answer in kinds)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:MAX_MOVED]
    return tuple(
        Moved(labels[label], labels[keras_answer], labels[answer], count)
        for (label, keras_answer, answer), count in ordered
    )


def _flips(
    own: NDArray[np.float32],
    keras: NDArray[np.float32],
    answers: NDArray[np.int64],
    keras_answers: NDArray[np.int64],
    truth: NDArray[np.integer],
    labels: Sequence[str],
    files: Sequence[str],
) -> tuple[Flip, ...]:
    """List the worst flips: lost answers, then wrong ones that became other wrong ones, then gained ones.

    Within each kind the highest sum of both scores comes first, ties in the order of the images.
    """
    scores, keras_scores = scores_of(own, answers), scores_of(keras, keras_answers)
    flipped = np.flatnonzero(answers != keras_answers)
    kind = np.where(keras_answers == truth, 0, np.where(answers == truth, 2, 1))[flipped]
    order = np.lexsort((flipped, -(scores + keras_scores)[flipped], kind))[:MAX_FLIPS]
    return tuple(
        Flip(
            file=files[index],
            label=labels[int(truth[index])],
            keras_answer=labels[int(keras_answers[index])],
            keras_score=float(keras_scores[index]),
            answer=labels[int(answers[index])],
            score=float(scores[index]),
        )
        for index in flipped[order].tolist()
    )
