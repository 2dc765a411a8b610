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

from edge_runtime.classifier import top1
from edge_runtime.contract import Check, OutputSpec, Variant
from edge_runtime.errors import CompatibilityError
from edge_runtime.workstation.statistics import (
    expected_calibration_error,
    mcnemar_p,
    paired_drop_interval,
    wilson_interval,
)

# Allowed difference of a probability from Keras'; for other variants only accuracy counts. A float export differs by
# rounding; half precision keeps 11 bits and a network multiplies many values. An export error gives a larger one.
TOLERANCES = {Variant.FLOAT32: 1e-4, Variant.ONNX_FLOAT32: 1e-4, Variant.FLOAT16: 2e-2}


@dataclass(frozen=True)
class Reference:
    """True labels and Keras' probabilities, to compare artifacts with.

    Attributes:
        split: Name of the check images' split.
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
    """Image that the artifact and Keras label differently.

    Attributes:
        index: Position of the image among the check images, from 0.
        truth: True label of the image.
        keras: Label given by Keras.
        artifact: Label given by the artifact.
        keras_score: Keras' probability of its own answer, 0..1.
        artifact_score: Artifact's probability of its own answer, 0..1.
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
    """Number of images with one label from Keras and another from the artifact."""

    keras: str
    artifact: str
    count: int

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"count must be 1 or more, got {self.count}")


@dataclass(frozen=True)
class Comparison:
    """Comparison of an artifact with Keras; intervals have 95 % confidence.

    Attributes:
        check: Figures and verdict for the manifest.
        accuracy_interval: Wilson interval of the accuracy, lower and upper end, 0..1.
        keras_accuracy_interval: Wilson interval of Keras' accuracy, 0..1.
        drop_points: Keras' accuracy minus the artifact's, percentage points; negative is a gain.
        drop_interval_points: Interval of the drop, paired over the same images, percentage points.
        mcnemar_p: Probability of a difference at least this large by chance alone, 0..1.
        calibration_error: Expected calibration error of the artifact, 0..1.
        keras_calibration_error: Expected calibration error of Keras, 0..1.
        flip_pairs: Changed answers by pair of labels, most frequent first.
        flips: Changed answers: those that the artifact has wrong first, by falling confidence.
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
        reference: True labels and Keras' probabilities.
        check: float32 [images, labels] of the artifact.
        golden: float32 [golden images, labels] of the artifact.
        output: Rule that turns probabilities into an answer.
        labels: Labels in output order.
        variant: Variant of the artifact; float variants must also stay within a tolerance of Keras' probabilities.
        engine: Runtime and version that ran the artifact.
        max_drop_points: Allowed loss of accuracy, percentage points.

    Raises:
        CompatibilityError: The number of outputs differs from Keras', or some are not finite.
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
        passed=drop_points <= max_drop_points and max(differences) <= TOLERANCES.get(variant, math.inf),
    )
    flips = _flips(reference, check, answers, keras_answers, labels)
    pairs = Counter((flip.keras, flip.artifact) for flip in flips)
    return Comparison(
        check=result,
        accuracy_interval=wilson_interval(int(right.sum()), len(right)),
        keras_accuracy_interval=wilson_interval(int(keras_right.sum()), len(right)),
        drop_points=drop_points,
        drop_interval_points=paired_drop_interval(keras_right, right),
        mcnemar_p=mcnemar_p(keras_right, right),
        calibration_error=expected_calibration_error(check, reference.truth, answers=answers),
        keras_calibration_error=expected_calibration_error(reference.check, reference.truth, answers=keras_answers),
        flip_pairs=tuple(FlipPair(*pair, count) for pair, count in sorted(pairs.items(), key=lambda p: (-p[1], p[0]))),
        flips=flips,
    )


def points(fraction: float) -> float:
    """Convert a fraction to percentage points, rounded so that 0.97 - 0.96 is exactly 1 and passes a limit of 1."""
    return math.floor(fraction * 1e6 + 0.5) / 1e4


def check_fractions(**values: float) -> None:
    """Raise ValueError unless all named values are 0..1."""
    for name, value in values.items():
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"{name} must be 0 to 1, got {value}")


def _difference(found: NDArray[np.float32], keras: NDArray[np.float32]) -> float:
    """Largest absolute difference of a probability."""
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
            # Clipped, since softmax may exceed 1 by rounding.
            keras_score=float(np.clip(reference.check[row, keras_answers[row]], 0, 1)),
            artifact_score=float(np.clip(check[row, answers[row]], 0, 1)),
        )
        for row in np.flatnonzero(answers != keras_answers)
    ]
    return tuple(sorted(flips, key=lambda flip: (flip.artifact == flip.truth, -flip.artifact_score, flip.index)))
