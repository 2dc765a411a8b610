"""A temperature is found, kept only where it helps, and folded so that nothing but the scores changes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from edge_runtime.errors import EdgeKitError
from train.evaluation import calibration


def images_of(temperature, count=4000, labels=4):
    """Logits of a network, and labels drawn so that just this temperature makes its scores true."""
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 3, (count, labels))
    shares = np.exp(calibration.log_softmax(logits, temperature))
    targets = (shares.cumsum(axis=1) < rng.random((count, 1))).sum(axis=1)
    return logits.astype(np.float32), np.minimum(targets, labels - 1)


@pytest.mark.parametrize("truth", [0.5, 2.0, 4.0])
def test_the_temperature_of_the_data_is_found(truth):
    logits, targets = images_of(truth)
    found = calibration.fit_temperature(logits, targets)
    assert found == pytest.approx(truth, rel=0.08)
    assert calibration.nll(logits, targets, found) < calibration.nll(logits, targets)


def test_true_scores_are_left_alone_and_too_few_images_say_nothing():
    assert calibration.fit_temperature(*images_of(1.0, count=200)) == 1.0
    logits, targets = images_of(4.0)
    assert [calibration.fit_temperature(logits[:count], targets[:count]) for count in (0, 1, 9)] == [1.0] * 3


@pytest.mark.parametrize(("count", "gap"), [(10, 1.0), (10, 0.1), (300, 2.0), (10, 40.0)])
def test_images_that_are_all_right_do_not_make_it_sure_of_everything(count, gap):
    targets = np.arange(count) % 2
    logits = (np.eye(2)[targets] * gap).astype(np.float32)
    temperature = calibration.fit_temperature(logits + np.float32(0.001) * np.arange(count)[:, None], targets)
    assert calibration.MIN_TEMPERATURE <= temperature <= calibration.MAX_TEMPERATURE
    score = np.exp(calibration.log_softmax(logits, temperature)).max(axis=1).mean()
    assert temperature == 1.0 or score <= 1 - 1 / (2 * count + 2) + 1e-3


def test_all_wrong_answers_ask_for_the_highest_temperature():
    targets = np.arange(50) % 2
    logits = (np.eye(2)[1 - targets] * 30).astype(np.float32)
    assert calibration.fit_temperature(logits, targets) == pytest.approx(calibration.MAX_TEMPERATURE, rel=0.01)


def test_huge_logits_stay_numbers():
    logits = np.array([[1e30, -1e30], [0.0, 5e4]], np.float32)
    assert np.allclose(np.exp(calibration.log_softmax(logits, 0.25)), [[1, 0], [0, 1]])


def test_a_model_that_gives_other_probabilities_is_refused():
    expected = np.full((3, 2), 0.5, np.float32)
    calibration.check_folded(expected + np.float32(5e-5), expected)
    for outputs in (expected + np.float32(1e-3), np.full((3, 2), np.nan, np.float32)):
        with pytest.raises(EdgeKitError, match=r"expected at most 0\.0001; this is a bug in edgekit"):
            calibration.check_folded(outputs, expected)


@given(npst.arrays(np.float32, st.integers(0, 60), elements=st.floats(0, 1, width=32)), st.integers(0, 2**32 - 1))
def test_every_answer_is_in_one_bin(scores, seed):
    is_right = np.random.default_rng(seed).random(len(scores)) < 0.5
    found = calibration.reliability(scores, is_right)
    assert len(found.bins) == calibration.BINS
    assert sum(entry.images for entry in found.bins) == len(scores)
    error = sum(entry.images * abs(entry.mean_score - entry.accuracy) for entry in found.bins) / max(len(scores), 1)
    assert found.error == pytest.approx(error, abs=1e-6)
    for index, entry in enumerate(found.bins):
        if entry.images:
            assert index / calibration.BINS - 1e-6 <= entry.mean_score <= (index + 1) / calibration.BINS + 1e-6


def test_the_calibration_error_of_known_answers():
    scores = np.array([1.0] * 10 + [0.5] * 10, np.float32)
    is_right = np.array([True] * 8 + [False] * 2 + [True] * 5 + [False] * 5)
    found = calibration.reliability(scores, is_right)
    assert (found.error, found.bins[-1].accuracy) == (pytest.approx(0.1), pytest.approx(0.8))
