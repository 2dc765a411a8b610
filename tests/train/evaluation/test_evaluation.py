"""Scores, rankings and thresholds of known answers, and a whole evaluation of a small model."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.contract import Head
from edge_runtime.errors import EdgeKitError
from edge_runtime.workstation.datasets.samples import Sample, Split
from train.evaluation.calibration import best_f1_threshold, reject_threshold, rejection, scores_at
from train.evaluation.metrics import f1_interval, mean_ranking, rank, score
from train.intake.images import TrainingData
from train.recipe import ThresholdRule, load_recipe, override


@pytest.fixture
def evaluation():
    """Module of the evaluation, which imports Keras."""
    import train.evaluation.evaluate

    return train.evaluation.evaluate


@pytest.mark.parametrize(("labels", "count"), [(2, 50), (7, 300), (1000, 700)])
def test_scores_are_those_of_scikit_learn(labels, count):
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    rng = np.random.default_rng(0)
    targets = rng.integers(0, labels, count)
    answers = np.where(rng.random(count) < 0.7, targets, rng.integers(0, labels, count))
    found = score(answers, targets, [str(i) for i in range(labels)])
    names = list(range(labels))
    expected = precision_recall_fscore_support(targets, answers, labels=names, zero_division=0)
    for name, values in zip(("precision", "recall", "f1"), expected, strict=False):
        assert np.allclose([getattr(entry, name) for entry in found.classes], values)
    assert np.array_equal(found.confusion, confusion_matrix(targets, answers, labels=names))
    for which, average in (("macro", found.macro), ("weighted", found.weighted)):
        present = sorted(set(targets))
        means = precision_recall_fscore_support(targets, answers, labels=present, average=which, zero_division=0)
        assert np.allclose([average.precision, average.recall, average.f1], means[:3])


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 60))
def test_an_interval_of_f1_holds_it(hits, misses, alarms):
    low, high = f1_interval(hits, hits + misses, hits + alarms)
    f1 = 2 * hits / max(2 * hits + misses + alarms, 1)
    assert 0 <= low <= f1 + 1e-9
    assert f1 - 1e-9 <= high <= 1


def test_intervals_of_f1_cover_as_often_as_they_say():
    rng = np.random.default_rng(1)
    # Of 1000 sets of 60 images, half of each class: recall 0.8, false alarms 0.1.
    hits, alarms = rng.binomial(30, 0.8, 1000), rng.binomial(30, 0.1, 1000)
    truth = 2 * 0.8 / (1 + 0.8 + 0.1)
    covered = [
        low <= truth <= high for h, a in zip(hits, alarms, strict=True) for low, high in [f1_interval(h, 30, h + a)]
    ]
    assert np.mean(covered) > 0.93


def test_rankings_are_those_of_scikit_learn_and_absent_classes_have_none():
    from sklearn.metrics import average_precision_score, roc_auc_score

    rng = np.random.default_rng(2)
    targets = rng.integers(0, 3, 400)
    probabilities = rng.dirichlet([1, 1, 1, 1], 400).astype(np.float32)
    probabilities[np.arange(400), targets] += 0.2
    found = rank(probabilities, targets, list("abcd"))
    for i, entry in enumerate(found[:3]):
        assert entry.roc_auc == pytest.approx(roc_auc_score(targets == i, probabilities[:, i]))
        assert entry.average_precision == pytest.approx(average_precision_score(targets == i, probabilities[:, i]))
        assert 2 <= len(entry.roc_xy) <= 200
        assert entry.roc_xy[[0, -1]].tolist() == [[0, 0], [1, 1]]
        assert (entry.precision_recall_xy[0].tolist(), entry.precision_recall_xy[-1, 0]) == ([0, 1], 1)
    assert found[3].roc_auc is found[3].average_precision is None
    assert mean_ranking([0.5, None, 1.0]) == 0.75
    only = rank(probabilities[:5], np.zeros(5, np.int64), list("abcd"))
    assert mean_ranking([entry.roc_auc for entry in only]) is None


@given(st.lists(st.tuples(st.integers(0, 8), st.booleans()), max_size=25))
def test_no_threshold_has_a_better_f1_and_none_as_good_is_nearer_to_a_half(rows):
    scores = np.array([value / 8 for value, _ in rows], np.float32)
    is_second = np.array([truth for _, truth in rows], bool)
    chosen = best_f1_threshold(scores, is_second)
    f1 = scores_at(chosen, scores, is_second).f1
    # Every threshold between neighbouring scores, by brute force; above all scores nothing is named.
    values = sorted(set(scores.tolist()))
    others = [*((a + b) / 2 for a, b in itertools.pairwise(values)), 0.5]
    assert all(scores_at(other, scores, is_second).f1 <= f1 + 1e-9 for other in others)
    equal = [other for other in others if scores_at(other, scores, is_second).f1 >= f1 - 1e-9]
    assert abs(chosen - 0.5) <= min(abs(other - 0.5) for other in equal) + 1e-9


def test_a_threshold_is_measured():
    scores, truth = np.array([0.1, 0.4, 0.6, 0.9], np.float32), np.array([False, True, False, True])
    found = scores_at(0.5, scores, truth)
    assert (found.precision, found.recall, found.f1, found.accuracy) == (0.5, 0.5, 0.5, 0.5)
    assert scores_at(0.3, scores, truth).recall == 1.0
    assert scores_at(0.95, scores, truth).precision == 0.0


@given(st.integers(1, 500), st.integers(0, 2**32 - 1))
def test_the_reject_threshold_keeps_19_of_20_right_answers(count, seed):
    rng = np.random.default_rng(seed)
    scores, is_right = rng.random(count).astype(np.float32), rng.random(count) < 0.8
    threshold = reject_threshold(scores, is_right)
    found = rejection(threshold, scores, is_right)
    assert found.right_rejected <= 0.05 * is_right.sum()
    assert found.coverage == pytest.approx((scores >= threshold).mean())
    assert found.wrong == (~is_right).sum()
    assert found.wrong_rejected + found.right_rejected == pytest.approx((1 - found.coverage) * count)


def test_the_reject_threshold_leaves_room_for_eight_bits_and_needs_right_answers():
    sure = np.full(20, 0.9999, np.float32)
    assert reject_threshold(sure, np.ones(20, bool)) == 0.98
    assert reject_threshold(sure, np.zeros(20, bool)) == 0.0
    assert rejection(0.5, np.zeros(0, np.float32), np.zeros(0, bool)).coverage == 0.0


def colored(labels, per_part):
    """Noisy images of 32 pixels whose mean red, green or blue says the class, with some overlap."""
    rng = np.random.default_rng(0)
    places = [(split, index, index % labels) for split, count in per_part.items() for index in range(count)]
    samples = [Sample(Path(f"{split.value}/{label}/{index}.png"), f"c{label}", split) for split, index, label in places]
    targets = np.array([label for *_, label in places], np.int64)
    images = rng.integers(0, 200, (len(places), 32, 32, 3)).astype(np.float32)
    rows = np.arange(len(places), dtype=np.intp)
    images[rows, :, :, targets % 3] += rng.normal(12, 12, (len(places), 1, 1))
    images = np.clip(images, 0, 255).astype(np.uint8)
    names = tuple(f"c{label}" for label in range(labels))
    return TrainingData("colors", names, tuple(samples), images, rows, targets, (), ())


PARTS = {Split.TRAIN: 12, Split.VALIDATION: 90, Split.TEST: 60}


def model_of(head, labels, scale=1.0):
    """Mean colours to probabilities, as `train.network.models` names it; ``scale`` makes it too sure or too timid."""
    import keras

    from train.network.models import OUTPUT_LAYER

    image = keras.Input((32, 32, 3), name="image")
    mean = keras.layers.GlobalAveragePooling2D()(image)
    units = 1 if head is Head.SIGMOID else labels
    layer = keras.layers.Dense(units, activation=head.value, name=OUTPUT_LAYER)
    model = keras.Model(image, layer(mean))
    # A second use, as the head of `train.network.models.Network` has it.
    keras.Model(features := keras.Input((3,)), layer(features))
    kernel = np.array([[-1], [1], [0]]) if head is Head.SIGMOID else np.eye(3, labels)
    layer.set_weights([(kernel * scale).astype(np.float32), np.full(units, 0.1 * scale, np.float32)])
    return model


def recipe_of(head, **changes):
    recipe = override(load_recipe("cnn-small"), {"input.image_size": 32})
    return replace(recipe, head=replace(recipe.head, kind=head, calibrate=True, **changes))


@pytest.mark.parametrize(("head", "labels"), [(Head.SOFTMAX, 3), (Head.SOFTMAX, 2), (Head.SIGMOID, 2)])
@pytest.mark.parametrize("scale", [2.0, 0.02])
def test_the_saved_model_gives_the_calibrated_scores_and_the_same_answers(head, labels, scale, monkeypatch, evaluation):
    passes, predict = [], evaluation.predict
    monkeypatch.setattr(evaluation, "predict", lambda *a: passes.append(len(a[2])) or predict(*a))
    data, model = colored(labels, PARTS), model_of(head, labels, scale)
    images = data.images_nhwc_rgb_u8.astype(np.float32)
    before = np.asarray(model(images))
    found = evaluation.evaluate(model, data, recipe_of(head))
    after = np.asarray(model(images))
    assert passes == [162]
    assert found.calibration.temperature != 1.0
    assert (found.calibration.temperature > 1) == (scale > 1)
    assert found.calibration.validation_nll_after < found.calibration.validation_nll_before
    assert np.allclose(found.probabilities[:, -after.shape[1] :], after, atol=1e-5)
    assert np.allclose(found.probabilities.sum(axis=1), 1, atol=1e-5)
    plain = before[:, 0] >= 0.5 if head is Head.SIGMOID else before.argmax(axis=1)
    assert np.array_equal(found.answers, plain)
    is_sigmoid = head is Head.SIGMOID
    assert (found.output.head, found.output.decision_threshold) == (head, 0.5 if is_sigmoid else 0.0)
    assert 0 < found.output.reject_threshold < 1
    assert (len(found.thresholds), found.scores[Split.TEST].images) == (int(is_sigmoid), 60)
    assert found.calibration.test_after.error < found.calibration.test_before.error


def test_a_threshold_is_fitted_where_the_recipe_asks_for_it(evaluation):
    data, model = colored(2, PARTS), model_of(Head.SIGMOID, 2)
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([kernel, bias - 15])  # says the first label too often
    found = evaluation.evaluate(model, data, recipe_of(Head.SIGMOID, threshold=ThresholdRule.F1))
    chosen, half = found.thresholds
    assert chosen.threshold == found.output.decision_threshold < half.threshold == 0.5
    assert chosen.f1 > half.f1
    assert chosen.accuracy == pytest.approx(found.scores[Split.TEST].accuracy)


def test_calibration_can_be_left_out_and_then_the_weights_stay(evaluation):
    data, model = colored(3, PARTS), model_of(Head.SOFTMAX, 3, 2.0)
    kernel = model.layers[-1].get_weights()[0]
    recipe = recipe_of(Head.SOFTMAX)
    found = evaluation.evaluate(model, data, replace(recipe, head=replace(recipe.head, calibrate=False)))
    assert found.calibration.temperature == 1.0
    assert found.calibration.test_before == found.calibration.test_after
    assert np.array_equal(model.layers[-1].get_weights()[0], kernel)


def test_a_fold_that_does_not_work_is_an_error(monkeypatch, evaluation):
    monkeypatch.setattr(evaluation, "fold", lambda _layer, _temperature: None)
    with pytest.raises(EdgeKitError, match="this is a bug in edgekit"):
        evaluation.evaluate(model_of(Head.SOFTMAX, 3, 2.0), colored(3, PARTS), recipe_of(Head.SOFTMAX))


def test_a_model_without_numbers_is_an_error(evaluation):
    model = model_of(Head.SOFTMAX, 3, float("nan"))
    says = r"the outputs of 162 of 162 images are not finite; lower optimizer\.learning_rate"
    with pytest.raises(EdgeKitError, match=says):
        evaluation.evaluate(model, colored(3, PARTS), recipe_of(Head.SOFTMAX))


@pytest.mark.parametrize("labels", [3, 1000])
def test_parts_may_be_empty_and_classes_absent(labels, evaluation):
    data = colored(labels, {Split.TRAIN: 6})
    found = evaluation.evaluate(model_of(Head.SOFTMAX, labels), data, recipe_of(Head.SOFTMAX))
    facts = found.scores[Split.TEST].images, found.output.reject_threshold, found.calibration.temperature
    assert facts == (0, 0.0, 1.0)
    assert all(entry.roc_auc is None for entry in found.ranking)
