"""From a model's outputs to its answer: the one rule, for Keras, exports and device alike."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_runtime.contract import Head, OutputSpec


def widen(outputs: NDArray[np.float32], output: OutputSpec) -> NDArray[np.float32]:
    """Give a sigmoid head's outputs their second column.

    Args:
        outputs: float32 [n, labels] of a softmax head, [n, 1] of a sigmoid head.
        output: What they mean.

    Returns:
        float32 [n, labels], one probability a label.
    """
    if output.head is Head.SIGMOID:
        return np.concatenate([np.float32(1.0) - outputs, outputs], axis=1)
    return outputs


def top1(probabilities: NDArray[np.float32], output: OutputSpec) -> NDArray[np.int64]:
    """Label index of each answer: int64 [n] for float32 [n, labels].

    The first of equal probabilities wins, on every machine; a sigmoid head's second label wins from its threshold on.
    """
    if output.head is Head.SIGMOID:
        answers: NDArray[np.int64] = (probabilities[:, 1] >= output.decision_threshold).astype(np.int64)
    else:
        answers = np.argmax(probabilities, axis=1).astype(np.int64)
    return answers


def answer_of(probabilities: NDArray[np.float32], output: OutputSpec) -> int:
    """`top1` of one picture: float32 [labels] to the index of its label. Beside a small model the time of it counts."""
    if output.head is Head.SIGMOID:
        return int(probabilities[1] >= np.float32(output.decision_threshold))
    return int(probabilities.argmax())
