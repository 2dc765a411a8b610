"""Compare the outputs of an artifact with those of the Keras model: accuracy drop, agreement, flips.

Pure arithmetic on arrays; no model is loaded here.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_runtime.contract import Check, OutputSpec, Variant
from edge_runtime.decision import top1
from edge_runtime.errors import CompatibilityError
from edge_runtime.workstation.statistics import (
    expected_calibration_error,
    mcnemar_p,
    paired_drop_interval,
    wilson_interval,
)

# A float export differs from Keras by rounding only; more means that the export is wrong.
FLOAT_TOLERANCE = 1e-4
# Half precision keeps 11 bits, and a network multiplies many of them; a wrong export is further off than this.
FLOAT16_TOLERANCE = 2e-2
_TOLERANCES = {
    Variant.FLOAT32: FLOAT_TOLERANCE,
    Variant.ONNX_FLOAT32: FLOAT_TOLERANCE,
    Variant.FLOAT16: FLOAT16_TOLERANCE,
}


@dataclass(frozen=True)
class Reference:
    """Keras' side of the comparison.

    Attributes:
        split: Name of the images' split.
        truth: int [images], index of each image's label.
        check: float32 [images, labels], Keras' probabilities.
        golden: float32 [golden images, labels], Keras' probabilities.
    """

    split: str
    truth: NDArray[np.int64]
    check: NDArray[np.float32]
    golden: NDArray[np.float32]


@dataclass(frozen=True)
class Flip:
    """An image to which the artifact gives another answer than Keras.

    Attributes:
        index: Of the image, from 0, in the order of the check.
        truth: Its label.
        keras: Keras' answer.
        artifact: The artifact's answer.
        keras_score: Keras' probability of its own answer, 0..1.
        artifact_score: The artifact's probability of its own answer, 0..1.
    """

    index: int
    truth: str
    keras: str
    artifact: str
    keras_score: float
    artifact_score: float

    def __post_init__(self) -> None:
        if self.index < 0:
            raise ValueError(f"index must be 0 or more, got {self.index}")
        check_fractions(keras_score=self.keras_score, artifact_score=self.artifact_score)


@dataclass(frozen=True)
class FlipPair:
    """How many images Keras answers one way and the artifact another."""

    keras: str
    artifact: str
    count: int

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"count must be 1 or more, got {self.count}")


@dataclass(frozen=True)
class Comparison:
    """An artifact beside Keras, with how sure each figure is; intervals are of 95 %.

    Attributes:
        check: What goes into the manifest, with the verdict.
        accuracy_interval: Wilson's, lower and upper end, 0..1.
        keras_accuracy_interval: The same of Keras.
        drop_points: Keras' accuracy less the artifact's, percentage points; negative is a gain.
        drop_interval_points: Its interval; both models saw the same images.
        mcnemar_p: How often a difference as large comes by chance alone, 0..1.
        calibration_error: Expected calibration error of the artifact, 0..1.
        keras_calibration_error: The same of Keras.
        flip_pairs: Changes of the answer by labels, the most frequent first.
        flips: Every image whose answer changed: those that the artifact has wrong first, the surest of them leading.
    """

    check: Check
    accuracy_interval: tuple[float, float]
    keras_accuracy_interval: tuple[float, float]
    drop_points: float
    drop_interval_points: tuple[float, float]
    mcnemar_p: float
    calibration_error: float
    keras_calibration_error: float
    flip_pairs: tuple[FlipPair, ...]
    flips: tuple[Flip, ...]

    def __post_init__(self) -> None:
        for name in ("accuracy_interval", "keras_accuracy_interval", "drop_interval_points"):
            ends = getattr(self, name)
            if len(ends) != 2 or not -math.inf < ends[0] <= ends[1] < math.inf:
                raise ValueError(f"{name} must be a lower and an upper end, got {list(ends)}")
        if not math.isfinite(self.drop_points):
            raise ValueError(f"drop_points must be a number, got {self.drop_points}")
        check_fractions(
            mcnemar_p=self.mcnemar_p,
            calibration_error=self.calibration_error,
            keras_calibration_error=self.keras_calibration_error,
        )


def compare(
    reference: Reference,
    check: NDArray[np.float32],
    golden: NDArray[np.float32],
    output: OutputSpec,
    labels: Sequence[str],
    *,
    variant: Variant,
    engine: str,
    max_drop_points: float,
) -> Comparison:
    """Compare an artifact's probabilities with Keras'.

    Args:
        reference: Keras' side.
        check: float32 [images, labels] of the artifact.
        golden: float32 [golden images, labels] of the artifact.
        output: How probabilities become an answer.
        labels: In output order.
        variant: Float variants must also stay within a tolerance of Keras' probabilities.
        engine: Runtime and version that ran the artifact.
        max_drop_points: Allowed loss of accuracy, percentage points.

    Raises:
        CompatibilityError: The artifact's outputs are not as many as Keras', or not all of them are numbers.
    """
    differences = [_difference(check, reference.check), _difference(golden, reference.golden)]
    answers, keras_answers = top1(check, output), top1(reference.check, output)
    right, keras_right = answers == reference.truth, keras_answers == reference.truth
    accuracy, keras_accuracy = float(np.mean(right)), float(np.mean(keras_right))
    drop_points = points(keras_accuracy - accuracy)
    result = Check(
        engine=engine,
        split=reference.split,
        images=len(reference.truth),
        accuracy=accuracy,
        keras_accuracy=keras_accuracy,
        agreement=float(np.mean(answers == keras_answers)),
        max_probability_difference=differences[0],
        golden_max_difference=differences[1],
        max_drop_points=max_drop_points,
        passed=drop_points <= max_drop_points and max(differences) <= _TOLERANCES.get(variant, math.inf),
    )
    flips = _flips(reference, check, answers, keras_answers, labels)
    return Comparison(
        check=result,
        accuracy_interval=wilson_interval(int(right.sum()), len(right)),
        keras_accuracy_interval=wilson_interval(int(keras_right.sum()), len(right)),
        drop_points=drop_points,
        drop_interval_points=paired_drop_interval(keras_right, right),
        mcnemar_p=mcnemar_p(keras_right, right),
        calibration_error=expected_calibration_error(check, reference.truth, answers=answers),
        keras_calibration_error=expected_calibration_error(reference.check, reference.truth, answers=keras_answers),
        flip_pairs=_flip_pairs(flips),
        flips=flips,
    )


def tolerance(variant: Variant) -> float | None:
    """How far a variant's probabilities may be from Keras', 0..1; None where only its accuracy counts."""
    return _TOLERANCES.get(variant)


def points(fraction: float) -> float:
    """A fraction as percentage points, rounded so that 0.97 - 0.96 is exactly one and does not fail a gate of one."""
    return math.floor(fraction * 1e6 + 0.5) / 1e4


def check_fractions(**values: float) -> None:
    """Raise ValueError unless all named values are 0..1."""
    for name, value in values.items():
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"{name} must be 0 to 1, got {value}")


def _difference(found: NDArray[np.float32], keras: NDArray[np.float32]) -> float:
    """Largest absolute difference of one probability."""
    if found.shape != keras.shape:
        raise CompatibilityError(f"expected probabilities {list(keras.shape)} as of Keras, got {list(found.shape)}")
    if not np.isfinite(found).all():
        raise CompatibilityError("expected probabilities, got values that are not numbers; the export is wrong")
    return float(np.max(np.abs(found - keras), initial=0.0))


def _flips(
    reference: Reference,
    check: NDArray[np.float32],
    answers: NDArray[np.int64],
    keras_answers: NDArray[np.int64],
    labels: Sequence[str],
) -> tuple[Flip, ...]:
    flips = [
        Flip(
            index=int(row),
            truth=labels[reference.truth[row]],
            keras=labels[keras_answers[row]],
            artifact=labels[answers[row]],
            keras_score=_score(reference.check[row, keras_answers[row]]),
            artifact_score=_score(check[row, answers[row]]),
        )
        for row in np.flatnonzero(answers != keras_answers)
    ]
    return tuple(sorted(flips, key=lambda flip: (flip.artifact == flip.truth, -flip.artifact_score, flip.index)))


def _score(probability: np.float32) -> float:
    """Sums of softmax may pass 1 by rounding."""
    return min(1.0, max(0.0, float(probability)))


def _flip_pairs(flips: Sequence[Flip]) -> tuple[FlipPair, ...]:
    counts = Counter((flip.keras, flip.artifact) for flip in flips)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return tuple(FlipPair(keras, artifact, count) for (keras, artifact), count in ordered)
