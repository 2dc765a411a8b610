"""How often a model is right, and how it differs from Keras."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.accuracy import MAX_FLIPS, MAX_MOVED, accuracy_of, against_keras, check_probabilities
from benchmarks.records import Flip, LabelShare, Moved
from benchmarks.statistics import share_of
from edge_runtime.classifier import Classifier
from edge_runtime.contract import Crop, Head, OutputSpec
from edge_runtime.errors import EngineError
from edge_runtime.model.bundle import ModelOptions
from edge_runtime.preprocess import load_prepared
from edge_runtime.testing import FakeEngine, fake_classifier
from edge_runtime.workstation.datasets.resolve import resolve
from edge_runtime.workstation.statistics import mcnemar_p, paired_drop_interval

LABELS = ("ant", "bee", "cat")
SOFTMAX = OutputSpec(Head.SOFTMAX, 0.0)


def table(*rows):
    return np.array(rows, np.float32)


def one_hot(answers, scores=None, labels=3):
    """Probabilities with these answers; what an answer leaves is shared by the others."""
    scores = np.array(scores or [0.8] * len(answers))[:, np.newaxis]
    return np.where(np.eye(labels)[answers], scores, (1 - scores) / (labels - 1)).astype(np.float32)


def test_accuracy_counts_right_answers_by_label():
    found = accuracy_of(one_hot([0, 0, 1, 2]), np.array([0, 0, 0, 2]), LABELS, SOFTMAX)
    assert found.top1 == share_of(3, 4)
    # No image shows a bee: of that label nothing can be said.
    assert found.per_label == (LabelShare("ant", share_of(2, 3)), LabelShare("cat", share_of(1, 1)))
    assert (found.top5, found.reject) == (None, None)
    assert found.calibration_error == pytest.approx(abs(0.8 - 0.75), abs=1e-6)


def test_answers_are_those_of_the_device_at_a_sigmoid_threshold():
    probabilities = table((0.7, 0.3), (0.75, 0.25), (0.1, 0.9))
    found = accuracy_of(probabilities, np.array([1, 1, 0]), ("no", "yes"), OutputSpec(Head.SIGMOID, 0.28))
    assert found.top1.hits == 1
    # The score is that of the answer, though the other label's is larger.
    assert found.calibration_error == pytest.approx((abs(0.3 - 1) + abs(0.75 - 0) + abs(0.9 - 0)) / 3, abs=1e-6)


def test_images_below_the_reject_threshold_are_not_answered():
    probabilities = one_hot([0, 1, 2, 2], [0.9, 0.9, 0.6, 0.6])
    output = OutputSpec(Head.SOFTMAX, 0.0, reject_threshold=0.7)
    reject = accuracy_of(probabilities, np.array([0, 0, 2, 2]), LABELS, output).reject
    assert reject is not None
    assert (reject.threshold, reject.answered, reject.right_of_answered) == (0.7, share_of(2, 4), share_of(1, 2))
    nothing = accuracy_of(probabilities[2:], np.array([2, 2]), LABELS, output).reject
    assert nothing is not None
    assert (nothing.answered, nothing.right_of_answered) == (share_of(0, 2), None)


@pytest.mark.parametrize("threshold", [0.3, 0.7, 0.9])
def test_a_score_at_the_reject_threshold_is_judged_as_the_device_judges_it(threshold):
    # As float32, 0.7 and 0.9 are a little less than as doubles, 0.3 is a little more.
    probabilities = table((threshold, *[(1 - threshold) / 4] * 4))
    labels = tuple("abcde")
    with fake_classifier(labels, FakeEngine(5)) as classifier:
        classifier.output_spec = OutputSpec(Head.SOFTMAX, 0.0, reject_threshold=threshold)
        is_rejected = classifier.is_rejected(classifier.rank(probabilities[0]))
        reject = accuracy_of(probabilities, np.array([0]), labels, classifier.output_spec).reject
    assert reject is not None
    assert reject.answered.hits == (not is_rejected)


@given(st.data())
@settings(max_examples=60)
def test_five_best_are_those_that_the_device_ranks(data):
    labels = data.draw(st.sampled_from([6, 9, 70]))
    images = data.draw(st.integers(1, 6))
    # Quantised scores tie all the time.
    values = data.draw(st.lists(st.integers(0, 4), min_size=images * labels, max_size=images * labels))
    probabilities = np.array(values, np.float32).reshape(images, labels) / 256
    truth = np.array(data.draw(st.lists(st.integers(0, labels - 1), min_size=images, max_size=images)))
    names = tuple(f"label{index}" for index in range(labels))
    found = accuracy_of(probabilities, truth, names, SOFTMAX)
    with fake_classifier(names, FakeEngine(labels)) as classifier:
        ranked = [[item.label for item in classifier.rank(row, 5)] for row in probabilities]
    assert found.top5 is not None
    assert found.top5.hits == sum(names[label] in best for label, best in zip(truth, ranked, strict=True))
    assert found.top1.hits == sum(names[label] == best[0] for label, best in zip(truth, ranked, strict=True))
    assert 0 <= found.calibration_error <= 1
    assert sum(item.share.total for item in found.per_label) == images
    assert sum(item.share.hits for item in found.per_label) == found.top1.hits


@pytest.mark.parametrize(
    ("probabilities", "message"),
    [
        (table((0.5, np.nan, 0.5), (0.2, 0.3, 0.5)), "not numbers for 1 of 2 images"),
        (table((0.5, np.inf, 0.5), (-np.inf, 0.3, 0.5)), "not numbers for 2 of 2 images"),
        (table((4.5, -2, 0.5), (0.2, 0.3, 0.5)), "0 to 1, got values from -2 to 4.5; .*softmax"),
        (table((0.5, 0.5), (0.5, 0.5)), r"float \[2, 3\], got float32 \[2, 2\]"),
        (table((0.5, 0.2, 0.3)), r"float \[2, 3\], got float32 \[1, 3\]"),
        (np.zeros((2, 3), np.int64), r"got int64 \[2, 3\]"),
        (np.zeros(3, np.float32), r"got float32 \[3\]"),
        (np.zeros((0, 3), np.float32), r"got float32 \[0, 3\]"),
    ],
)
def test_a_broken_artifact_is_an_error_in_one_sentence(probabilities, message):
    truth = np.array([0, 1])
    with pytest.raises(EngineError, match=message):
        accuracy_of(probabilities, truth, LABELS, SOFTMAX)
    sound = one_hot([0, 1])
    for own, keras in ((probabilities, sound), (sound, probabilities)):
        with pytest.raises(EngineError, match=message):
            against_keras(own, keras, truth, LABELS, ["a", "b"], SOFTMAX)


def test_probabilities_may_miss_their_range_by_a_rounding_but_scores_do_not():
    probabilities = table((1.0000002, -1e-7, 0))
    check_probabilities(probabilities, LABELS)
    found = against_keras(one_hot([1]), probabilities, np.array([0]), LABELS, ["a"], SOFTMAX)
    assert found.flips[0].keras_score == 1.0


def test_no_images_are_refused():
    nothing, truth = np.zeros((0, 3), np.float32), np.zeros(0, np.int64)
    with pytest.raises(ValueError, match="total >= 1"):
        accuracy_of(nothing, truth, LABELS, SOFTMAX)
    with pytest.raises(ValueError, match="at least one"):
        against_keras(nothing, nothing, truth, LABELS, [], SOFTMAX)


def against(keras, own, truth, keras_scores=None, scores=None):
    files = [f"{index}.jpg" for index in range(len(truth))]
    tables = one_hot(own, scores), one_hot(keras, keras_scores)
    return against_keras(*tables, np.array(truth), LABELS, files, SOFTMAX)


def test_flips_are_counted_and_the_worst_come_first():
    found = against(
        truth=[0, 0, 0, 1, 2, 0, 0],
        keras=[0, 0, 0, 2, 1, 0, 1],
        own=[0, 1, 1, 0, 2, 2, 1],
        keras_scores=[0.9, 0.6, 0.9, 0.9, 0.9, 0.7, 0.9],
        scores=[0.9, 0.5, 0.8, 0.9, 0.9, 0.9, 0.9],
    )
    assert (found.agreement, found.lost, found.gained) == (share_of(2, 7), 3, 1)
    assert found.drop_points == pytest.approx(200 / 7)
    # Lost with 0.9 + 0.8, 0.7 + 0.9, 0.6 + 0.5; then wrong in another way; then gained.
    assert [flip.file for flip in found.flips] == ["2.jpg", "5.jpg", "1.jpg", "3.jpg", "4.jpg"]
    assert found.flips[0] == Flip("2.jpg", "ant", "ant", pytest.approx(0.9), "bee", pytest.approx(0.8))
    moved = [("ant", "ant", "bee", 2), ("ant", "ant", "cat", 1), ("bee", "cat", "ant", 1), ("cat", "bee", "cat", 1)]
    assert found.moved == tuple(Moved(*fields) for fields in moved)


def test_equal_answers_lose_nothing_and_still_are_not_certain():
    found = against(truth=[0, 1, 2, 1], keras=[0, 1, 2, 0], own=[0, 1, 2, 0])
    assert (found.agreement.fraction, found.drop_points, found.mcnemar_p) == (1.0, 0.0, 1.0)
    assert (found.lost, found.gained, found.moved, found.flips) == (0, 0, (), ())
    assert found.drop_interval_points.low < 0 < found.drop_interval_points.high


@given(st.lists(st.tuples(*[st.integers(0, 2)] * 3), min_size=1, max_size=60))
@settings(max_examples=80)
def test_what_is_said_beside_keras_adds_up(images):
    truth, keras, own = (list(column) for column in zip(*images, strict=True))
    found = against(truth=truth, keras=keras, own=own)
    right, keras_right = np.equal(own, truth), np.equal(keras, truth)
    assert found.drop_points == pytest.approx(100 * (keras_right.mean() - right.mean()))
    assert found.mcnemar_p == mcnemar_p(keras_right, right)
    interval = found.drop_interval_points
    assert (interval.low, interval.high) == pytest.approx(paired_drop_interval(keras_right, right), abs=1e-9)
    assert interval.low <= found.drop_points <= interval.high
    flipped = len(images) - found.agreement.hits
    assert sum(item.count for item in found.moved) == flipped
    assert len(found.flips) == min(flipped, MAX_FLIPS)
    assert sum(flip.keras_answer == flip.label for flip in found.flips) == min(found.lost, MAX_FLIPS)
    other_way = against(truth=truth, keras=own, own=keras)
    assert (other_way.lost, other_way.gained) == (found.gained, found.lost)


def test_lists_of_flips_are_bounded():
    labels, truth = tuple(f"label{index:02}" for index in range(30)), np.arange(30)
    wrong, right = one_hot((truth + 1) % 30, labels=30), one_hot(truth, labels=30)
    found = against_keras(wrong, right, truth, labels, ["x"] * 30, SOFTMAX)
    assert (len(found.moved), len(found.flips), found.lost) == (MAX_MOVED, MAX_FLIPS, 30)
    assert [item.label for item in found.moved] == list(labels[:MAX_MOVED])


def test_published_models_are_as_right_as_published(real_data):
    folder = real_data("mlperf_tiny_ic")
    samples = resolve(str(folder / "eval")).samples
    truth = np.array([int(sample.label) for sample in samples])
    labels = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    foreign = ModelOptions(labels, Crop.STRETCH, (0.0, 255.0))
    found = {}
    for name in ("pretrainedResnet.tflite", "pretrainedResnet_quant.tflite"):
        with Classifier(folder / name, options=foreign) as classifier:
            images = [load_prepared(sample.path, classifier.input_spec) for sample in samples]
            found[name] = np.array([classifier.probabilities(image) for image in images])
    floating, quantised = found.values()
    assert accuracy_of(floating, truth, labels, SOFTMAX).top1.fraction == pytest.approx(0.855, abs=0.005)
    exact = accuracy_of(quantised, truth, labels, SOFTMAX)
    assert exact.top1.fraction == pytest.approx(0.85, abs=0.005)
    assert exact.top5 is not None
    assert exact.top5.fraction > 0.97
    beside = against_keras(quantised, floating, truth, labels, [str(sample.path) for sample in samples], SOFTMAX)
    assert beside.agreement.fraction > 0.95
    assert beside.drop_interval_points.low < 0 < beside.drop_interval_points.high
