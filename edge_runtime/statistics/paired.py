"""How sure a comparison of two models on the same pictures can be: Tango's interval and McNemar's test."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edge_runtime.statistics.intervals import normal_quantile

_BISECTIONS = 60


def paired_drop_interval(
    keras_correct: NDArray[np.bool_], artifact_correct: NDArray[np.bool_], confidence: float = 0.95
) -> tuple[float, float]:
    """The interval of Keras' accuracy less the artefact's on the same pictures.

    Tango's score interval. It inverts the score test whose value at a difference of 0 is McNemar's, so the two do not
    contradict each other; it keeps close to its confidence in small samples; and where both models are right on the
    same pictures it still has a width, which Wald's has not. Source: T. Tango, "Equivalence test and confidence
    interval for the difference in proportions for the paired-sample design", Statistics in Medicine 17 (1998) 891-908;
    among the intervals recommended by Fagerland, Lydersen and Laake, Statistics in Medicine 33 (2014) 2850-2875.

    Args:
        keras_correct: bool [n], whether Keras is right on each picture.
        artifact_correct: bool [n], the same of the artefact.
        confidence: Of the two-sided interval, between 0 and 1.

    Returns:
        Lower and upper end in percentage points; positive is a loss.

    Raises:
        ValueError: The arrays differ in length or are empty.
    """
    lost, gained, total = _discordant(keras_correct, artifact_correct)
    z, observed = normal_quantile(confidence), (lost - gained) / total
    # The statistic falls from +infinity at -1 to -infinity at 1, so each end is its only crossing of +z or -z.
    low = _crossing(lambda drop: _tango(lost, gained, total, drop) > z, -1.0, observed)
    high = _crossing(lambda drop: _tango(lost, gained, total, drop) > -z, observed, 1.0)
    return 100 * low, 100 * high


def mcnemar_p(keras_correct: NDArray[np.bool_], artifact_correct: NDArray[np.bool_]) -> float:
    """P value of McNemar's exact test: whether Keras and the artefact are right equally often.

    Two-sided binomial test on the pictures that only one of them has right. Source: Q. McNemar, Psychometrika 12 (1947)
    153-157; the exact form as in Fagerland, Lydersen and Laake, BMC Medical Research Methodology 13 (2013) 91.

    Args:
        keras_correct: bool [n], whether Keras is right on each picture.
        artifact_correct: bool [n], the same of the artefact.

    Returns:
        0..1; 1 where they are right on the same pictures.

    Raises:
        ValueError: The arrays differ in length or are empty.
    """
    lost, gained, _ = _discordant(keras_correct, artifact_correct)
    pairs = lost + gained
    # Whole numbers, because both sides leave the range of floats from a thousand pairs on.
    tail = sum(math.comb(pairs, count) for count in range(min(lost, gained) + 1))
    return float(min(1.0, 2 * tail / 2**pairs))


def _discordant(keras_correct: NDArray[np.bool_], artifact_correct: NDArray[np.bool_]) -> tuple[int, int, int]:
    """Pictures that Keras alone has right, that the artefact alone has right, and all."""
    if keras_correct.shape != artifact_correct.shape or not len(keras_correct):
        raise ValueError(
            f"expected as many answers of both models, at least one, got {keras_correct.shape} and "
            f"{artifact_correct.shape}"
        )
    lost = int(np.count_nonzero(keras_correct & ~artifact_correct))
    gained = int(np.count_nonzero(artifact_correct & ~keras_correct))
    return lost, gained, len(keras_correct)


def _tango(lost: int, gained: int, total: int, drop: float) -> float:
    """Tango's statistic at a supposed drop: observed less expected, over its standard error under that drop.

    ``q`` is the most likely share of pictures that the artefact alone has right if ``drop`` were the truth.
    """
    b = (2 * total - lost + gained) * drop - lost - gained
    c = -gained * drop * (1 - drop)
    q = (math.sqrt(max(0.0, b * b - 8 * total * c)) - b) / (4 * total)
    variance = total * (2 * q + drop * (1 - drop))
    distance = lost - gained - total * drop
    if variance <= 0:
        return math.copysign(math.inf, distance) if distance else 0.0
    return distance / math.sqrt(variance)


def _crossing(is_before: Callable[[float], bool], low: float, high: float) -> float:
    """Where ``is_before`` turns from true to false between two values."""
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if is_before(middle) else (low, middle)
    return (low + high) / 2
