"""What an artifact lost against Keras: pure arithmetic on arrays, no model in sight."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_runtime.contract import Check, OutputSpec, Variant
from edge_runtime.decision import top1

# A float export differs from Keras by rounding only; more means that the export is wrong.
FLOAT_TOLERANCE = 1e-4
_FLOAT_VARIANTS = (Variant.FLOAT32, Variant.ONNX_FLOAT32)


@dataclass(frozen=True)
class Reference:
    """Keras' side of the comparison.

    Attributes:
        split: Name of the pictures' split.
        truth: int [images], index of each picture's label.
        check: float32 [images, labels], Keras' probabilities.
        golden: float32 [golden images, labels], Keras' probabilities.
    """

    split: str
    truth: NDArray[np.int64]
    check: NDArray[np.float32]
    golden: NDArray[np.float32]


def compare(
    reference: Reference,
    check: NDArray[np.float32],
    golden: NDArray[np.float32],
    output: OutputSpec,
    *,
    variant: Variant,
    engine: str,
    max_drop_points: float,
) -> Check:
    """Compare an artifact's probabilities with Keras'.

    Args:
        reference: Keras' side.
        check: float32 [images, labels] of the artifact.
        golden: float32 [golden images, labels] of the artifact.
        output: How probabilities become an answer.
        variant: Float variants must also stay within `FLOAT_TOLERANCE`.
        engine: Runtime and version that ran the artifact.
        max_drop_points: Allowed loss of accuracy, percentage points.
    """
    answers, keras_answers = top1(check, output), top1(reference.check, output)
    accuracy = float(np.mean(answers == reference.truth))
    keras_accuracy = float(np.mean(keras_answers == reference.truth))
    difference = float(np.max(np.abs(check - reference.check)))
    golden_difference = float(np.max(np.abs(golden - reference.golden)))
    within_tolerance = variant not in _FLOAT_VARIANTS or max(difference, golden_difference) <= FLOAT_TOLERANCE
    return Check(
        engine=engine,
        split=reference.split,
        images=len(reference.truth),
        accuracy=accuracy,
        keras_accuracy=keras_accuracy,
        agreement=float(np.mean(answers == keras_answers)),
        max_probability_difference=difference,
        golden_max_difference=golden_difference,
        max_drop_points=max_drop_points,
        passed=points(keras_accuracy - accuracy) <= max_drop_points and within_tolerance,
    )


def points(fraction: float) -> float:
    """A fraction as percentage points, rounded so that 0.97 - 0.96 is exactly one and does not fail a gate of one."""
    return math.floor(fraction * 1e6 + 0.5) / 1e4
