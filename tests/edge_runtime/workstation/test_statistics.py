"""Intervals, McNemar's test and the calibration error against published values and by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.workstation.statistics import (
    expected_calibration_error,
    mcnemar_p,
    paired_drop_interval,
    wilson_interval,
)


def two_classes(*second):
    return np.array([[1 - value, value] for value in second], np.float32)


def pairs(both, lost, gained, neither):
    """Keras' and an artifact's right answers with these counts."""
    keras = [True] * (both + lost) + [False] * (gained + neither)
    artifact = [True] * both + [False] * lost + [True] * gained + [False] * neither
    return np.array(keras, bool), np.array(artifact, bool)


def test_wilson_agrees_with_published_values():
    # R. G. Newcombe, Statistics in Medicine 17 (1998) 857-872, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
    for correct, total, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (1, 29, 0.0061, 0.1718)):
        assert wilson_interval(correct, total) == pytest.approx((low, high), abs=5e-5)
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson_interval(20, 20)[1] == 1.0
    narrow, wide = wilson_interval(15, 148, 0.9), wilson_interval(15, 148, 0.99)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


@pytest.mark.parametrize(
    ("correct", "total", "confidence"), [(0, 0, 0.95), (1, 0, 0.95), (3, 2, 0.95), (-1, 2, 0.95), (1, 2, 1.0)]
)
def test_wilson_refuses_impossible_counts(correct, total, confidence):
    with pytest.raises(ValueError, match="expected"):
        wilson_interval(correct, total, confidence)


@pytest.mark.parametrize(
    ("counts", "confidence", "expected"),
    [
        # R's PropCIs::scoreci.mp, an implementation of Tango's interval by another hand: n = 1000 and n = 618.
        ((920, 60, 20, 0), 0.95, (2.31, 5.84)),
        ((565, 28, 25, 0), 0.90, (-1.48, 2.47)),
        # Fagerland, Lydersen and Laake (2014), airway hyper-responsiveness of 21 children.
        ((1, 1, 7, 12), 0.95, (-51.7, -2.6)),
        # No image changes sides: by algebra z² / (n + z²) on both sides.
        ((490, 0, 0, 10), 0.95, (-0.762, 0.762)),
    ],
)
def test_the_drop_interval_agrees_with_published_values(counts, confidence, expected):
    assert paired_drop_interval(*pairs(*counts), confidence) == pytest.approx(expected, abs=0.06)


@given(st.integers(0, 60), st.integers(0, 30), st.integers(0, 30), st.integers(0, 60))
def test_the_drop_interval_holds_the_drop_mirrors_and_agrees_with_the_statistic(both, lost, gained, neither):
    total = both + lost + gained + neither
    if not total:
        return
    low, high = paired_drop_interval(*pairs(both, lost, gained, neither))
    drop = 100 * (lost - gained) / total
    assert -100 <= low <= drop + 1e-9
    assert drop - 1e-9 <= high <= 100
    assert paired_drop_interval(*pairs(both, gained, lost, neither)) == pytest.approx((-high, -low), abs=1e-6)
    # At a drop of 0 the statistic is McNemar's, so the interval leaves out 0 exactly where that exceeds the quantile.
    if lost + gained:
        mcnemar = abs(lost - gained) / math.sqrt(lost + gained)
        if abs(mcnemar - 1.96) > 0.01:
            assert (low > 0 or high < 0) == (mcnemar > 1.96)


def test_the_drop_interval_covers_the_truth_as_often_as_it_says():
    rng, total, shares = np.random.default_rng(3), 60, (0.85, 0.07, 0.03, 0.05)
    covered = 0
    for counts in rng.multinomial(total, shares, 400):
        low, high = paired_drop_interval(*pairs(*map(int, counts)))
        covered += low <= 4.0 <= high
    assert 0.92 <= covered / 400 <= 0.98


def test_mcnemar_is_the_exact_binomial_test():
    assert mcnemar_p(*pairs(1, 1, 7, 12)) == pytest.approx(0.0703125)
    assert mcnemar_p(*pairs(5, 0, 6, 0)) == pytest.approx(2 / 64)
    assert mcnemar_p(*pairs(5, 3, 3, 0)) == 1.0
    assert mcnemar_p(*pairs(5, 0, 0, 3)) == 1.0
    assert mcnemar_p(*pairs(1, 5000, 5200, 12)) == pytest.approx(0.0487880, abs=1e-6)


def test_arrays_that_do_not_belong_together_are_refused():
    for keras, artifact in ((np.ones(2, bool), np.ones(3, bool)), (np.ones(0, bool), np.ones(0, bool))):
        with pytest.raises(ValueError, match="as many answers"):
            mcnemar_p(keras, artifact)
        with pytest.raises(ValueError, match="as many answers"):
            paired_drop_interval(keras, artifact)


def test_calibration_error_by_hand():
    # Two answers score 0.9 and one of them is right: |1.8 - 1| / 4; two score 0.6, both right: |1.2 - 2| / 4.
    probabilities = two_classes(0.9, 0.9, 0.6, 0.6)
    assert expected_calibration_error(probabilities, np.array([1, 0, 1, 1]), 10) == pytest.approx(0.4)
    assert expected_calibration_error(two_classes(1.0, 0.0), np.array([1, 0])) == 0.0
    # A threshold above 0.5 makes the first label the answer with a score under 0.5.
    low = expected_calibration_error(two_classes(0.6), np.array([0]), answers=np.array([0]))
    assert low == pytest.approx(0.6)
    with pytest.raises(ValueError, match="expected images"):
        expected_calibration_error(probabilities[:0], np.array([], int))
