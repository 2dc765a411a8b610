"""The gate's arithmetic, on numbers small enough to check by hand."""

from __future__ import annotations

import numpy as np
import pytest

from convert.compare import FLOAT_TOLERANCE, Reference, compare, points
from edge_runtime.contract import Head, OutputSpec, Variant
from edge_runtime.decision import top1, widen

SOFTMAX = OutputSpec(Head.SOFTMAX, 0.0)
SIGMOID = OutputSpec(Head.SIGMOID, 0.7)


def two_classes(*second: float) -> np.ndarray:
    return np.array([[1 - value, value] for value in second], np.float32)


def check(check_probabilities, *, variant=Variant.INT8, max_drop=1.0, truth=(0, 0, 1, 1)):
    keras = two_classes(0.1, 0.2, 0.8, 0.9)
    reference = Reference("validation", np.array(truth), keras, keras[:2])
    return compare(
        reference,
        check_probabilities,
        check_probabilities[:2],
        SOFTMAX,
        variant=variant,
        engine="test 1",
        max_drop_points=max_drop,
    )


def test_equal_outputs_lose_nothing():
    result = check(two_classes(0.1, 0.2, 0.8, 0.9))
    assert (result.accuracy, result.keras_accuracy, result.agreement) == (1.0, 1.0, 1.0)
    assert result.max_probability_difference == 0.0
    assert result.passed


def test_a_flip_is_counted_and_closes_the_gate():
    result = check(two_classes(0.1, 0.6, 0.8, 0.9))
    assert result.accuracy == 0.75
    assert result.agreement == 0.75
    assert result.max_probability_difference == pytest.approx(0.4)
    assert not result.passed
    assert check(two_classes(0.1, 0.6, 0.8, 0.9), max_drop=25.0).passed
    assert not check(two_classes(0.1, 0.6, 0.8, 0.9), max_drop=24.9).passed


def test_a_flip_that_gains_is_no_loss():
    result = check(two_classes(0.1, 0.6, 0.8, 0.9), truth=(0, 1, 1, 1))
    assert (result.keras_accuracy, result.accuracy) == (0.75, 1.0)
    assert result.passed


@pytest.mark.parametrize("variant", [Variant.FLOAT32, Variant.ONNX_FLOAT32])
def test_a_float_export_must_also_have_the_same_probabilities(variant):
    close, far = FLOAT_TOLERANCE / 2, FLOAT_TOLERANCE * 2
    assert check(two_classes(0.1 + close, 0.2, 0.8, 0.9), variant=variant).passed
    assert not check(two_classes(0.1, 0.2, 0.8 + far, 0.9), variant=variant).passed
    assert check(two_classes(0.1, 0.2, 0.8 + far, 0.9), variant=Variant.INT8).passed


def test_a_sigmoid_output_is_widened_and_decided_by_its_threshold():
    wide = widen(np.array([[0.25], [0.75]], np.float32), SIGMOID)
    assert wide.tolist() == [[0.75, 0.25], [0.25, 0.75]]
    assert widen(wide, SOFTMAX) is wide
    assert top1(two_classes(0.6, 0.69, 0.7, 0.9), SIGMOID).tolist() == [0, 0, 1, 1]
    assert top1(two_classes(0.6, 0.4), SOFTMAX).tolist() == [1, 0]


def test_points_do_not_suffer_from_binary_fractions():
    assert points(0.97 - 0.96) == 1.0
    assert points(0.0) == 0.0
    assert points(-0.0112) == -1.12
