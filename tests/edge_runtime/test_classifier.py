"""The glue between pixels and labels, with scripted outputs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edge_runtime.classifier import answer_of, dequantize, quantize, top1, widen
from edge_runtime.contract import Head, OutputSpec, TensorSpec
from edge_runtime.errors import EngineError
from edge_runtime.results import Prediction
from edge_runtime.testing import fake_classifier

probabilities = arrays(np.float32, st.integers(2, 90), elements=st.floats(0, 1, width=32))


@given(values=probabilities, top_k=st.integers(1, 40))
def test_ranking_is_by_score_and_ties_by_label_order(values, top_k):
    labels = tuple(f"label{index:03d}" for index in range(len(values)))
    ranked = fake_classifier(labels=labels).rank(values, top_k)
    assert len(ranked) == min(top_k, len(values))
    expected = sorted(zip((-values).tolist(), labels, strict=True))[: len(ranked)]
    assert [(prediction.label, prediction.score) for prediction in ranked] == [(name, -neg) for neg, name in expected]
    assert ranked[0].label == labels[top1(values[np.newaxis], OutputSpec(Head.SOFTMAX, 0.0))[0]]


@pytest.mark.parametrize(("value", "answer"), [(0.69, 0), (0.7, 1), (0.71, 1)])
def test_a_sigmoid_head_is_decided_by_its_threshold_not_by_the_larger_score(value, answer):
    output = OutputSpec(Head.SIGMOID, 0.7)
    wide = widen(np.array([[value]], np.float32), output)
    assert (wide.shape, wide.sum()) == ((1, 2), pytest.approx(1.0))
    assert (top1(wide, output).tolist(), answer_of(wide[0], output)) == ([answer], answer)


@given(values=probabilities, threshold=st.floats(0, 1), head=st.sampled_from(Head))
def test_one_image_has_the_answer_that_it_has_among_many(values, threshold, head):
    output = OutputSpec(head, threshold)
    assert answer_of(values, output) == top1(values[np.newaxis], output)[0]


@pytest.mark.parametrize("labels", [3, 1000])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_answer_that_is_no_number_is_an_error_of_the_model(labels, value):
    values = np.full(labels, 0.1, np.float32)
    values[1] = value
    with pytest.raises(EngineError, match=f"expected a probability, but the model gave {value}"):
        fake_classifier(tuple(map(str, range(labels)))).rank(values)


def test_no_label_is_named_twice_where_others_are_impossible():
    values = np.full(1000, -np.inf, np.float32)
    values[[7, 3]] = 0.5, 0.25
    ranked = fake_classifier(tuple(map(str, range(1000)))).rank(values, 4)
    labels = [prediction.label for prediction in ranked]
    assert (labels[:2], len(set(labels))) == (["7", "3"], len(labels))


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16"])
def test_dequantizing_is_exact(dtype):
    limits = np.iinfo(dtype)
    values = np.arange(limits.min, limits.max + 1).astype(dtype)
    for zero_point in (limits.min, 3, limits.max):
        real = dequantize(values, TensorSpec("x", dtype, values.shape, 0.0039215689, zero_point))
        differences = values.astype(np.int64) - zero_point
        assert real.dtype == np.float32
        np.testing.assert_array_equal(real, differences.astype(np.float32) * np.float32(0.0039215689))


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16"])
@given(scale=st.floats(1e-4, 2.0), zero_point=st.integers(-100, 100), value=st.integers(-128, 255))
def test_quantized_values_survive_the_round_trip(dtype, scale, zero_point, value):
    limits = np.iinfo(dtype)
    info = TensorSpec("x", dtype, (1,), scale, int(np.clip(zero_point, limits.min, limits.max)))
    quantized = np.array([np.clip(value, limits.min, limits.max)], dtype)
    assert quantize(dequantize(quantized, info), info).tolist() == quantized.tolist()


@pytest.mark.parametrize(("threshold", "rejected"), [(0.0, False), (0.5, False), (0.51, True)])
def test_an_answer_under_the_reject_threshold_is_rejected(threshold, rejected):
    classifier = fake_classifier()
    classifier.output_spec = OutputSpec(Head.SOFTMAX, 0.0, threshold)
    assert classifier.reject_threshold == threshold
    assert classifier.is_rejected([Prediction("dark", 0.5), Prediction("light", 0.5)]) is rejected


def test_a_closed_classifier_says_so():
    with fake_classifier() as classifier:
        assert classifier.classify(np.zeros((8, 8, 3), np.uint8))[0] == Prediction("dark", 1.0)
    classifier.close()
    assert classifier.engine.closed
    with pytest.raises(EngineError, match="the classifier was closed"):
        classifier.classify(np.zeros((8, 8, 3), np.uint8))


def test_quantizing_clips_and_floats_pass_through():
    info = TensorSpec("x", "uint8", (1,), 0.5, 10)
    assert quantize(np.array([-1e9, 0.0, 1e9]), info).tolist() == [0, 10, 255]
    floating = TensorSpec("x", "float32", (1,), 0.0, 0)
    values = np.array([0.25, -3.0], np.float32)
    assert dequantize(values, floating).tolist() == quantize(values, floating).tolist() == values.tolist()
