"""An artefact beside the Keras model, picture by picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy.metrics import check_probabilities, scores_of
from benchmarks.records.accuracy import AgainstKeras, Flip, Moved
from benchmarks.statistics import Interval, share_of
from edge_runtime.contract import OutputSpec
from edge_runtime.decision import top1
from edge_runtime.statistics.paired import mcnemar_p, paired_drop_interval

MAX_MOVED = 20
MAX_FLIPS = 12


def against_keras(
    own: NDArray[np.float32],
    keras: NDArray[np.float32],
    truth: NDArray[np.integer],
    labels: Sequence[str],
    files: Sequence[str],
    output: OutputSpec,
) -> AgainstKeras:
    """Compare an artefact's answers with those of Keras to the same pictures.

    Args:
        own: float32 [n, labels] of the artefact.
        keras: float32 [n, labels] of Keras.
        truth: int [n], label index of each picture.
        labels: In output order.
        files: The n pictures.
        output: How probabilities become an answer.

    Raises:
        EngineError: No such probabilities; see `check_probabilities`.
        ValueError: No pictures.
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
        # Tango's ends are bisected, so one that lies at the drop itself may be a rounding off.
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
    """Confusion difference: the kinds of flips, the most frequent first, equals in label order."""
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
    """The worst flips: lost answers, then wrong ones that became other wrong ones, then gained ones.

    Within each, those of which both models were surest come first, and equals in the order of the pictures.
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
