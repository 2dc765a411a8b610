"""Smoothing, threshold and events of `edge_runtime.pipeline.decide`."""

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.contract import Head, OutputSpec
from edge_runtime.errors import UsageError
from edge_runtime.pipeline.decide import Decider, DecisionRule, Exponential, KOfN, parse_smoothing

SOFTMAX = OutputSpec(Head.SOFTMAX, 0.0)
LABELS = ("cat", "dog", "nothing")


def probabilities(answer, score=0.8, labels=3):
    values = np.full(labels, (1 - score) / (labels - 1), np.float32)
    values[answer] = score
    return values


def decider(smooth="none", **rule):
    return Decider(LABELS, parse_smoothing(smooth, SOFTMAX), DecisionRule(**rule))


def decide_all(one, answers, period_s=0.1):
    found = [one.decide(probabilities(answer), number * period_s) for number, answer in enumerate(answers)]
    return [(decision.label, decision.event) for decision in found]


def test_k_of_n_needs_k_frames_even_at_the_start():
    smoothing = KOfN(2, 3, SOFTMAX)
    assert smoothing.add(probabilities(0, 0.6))[0] is None
    label, score = smoothing.add(probabilities(0, 0.8))
    assert (label, score) == (0, pytest.approx(0.7))
    assert smoothing.add(probabilities(1, 0.9))[0] == 0, "one other frame changes nothing"
    label, score = smoothing.add(probabilities(1, 0.7))
    assert (label, score) == (1, pytest.approx(0.8)), "the score is of the frames with that answer only"


@given(st.integers(1, 9), st.lists(st.integers(0, 3), min_size=1, max_size=30), st.data())
def test_k_of_n_is_what_counting_says(n, answers, data):
    k = data.draw(st.integers(n // 2 + 1, n))
    smoothing = KOfN(k, n, SOFTMAX)
    for number, answer in enumerate(answers):
        found, _ = smoothing.add(probabilities(answer, labels=4))
        window = answers[max(0, number + 1 - n) : number + 1]
        assert found == next((label for label in range(4) if window.count(label) >= k), None)


def test_exponential_average_follows_its_formula():
    smoothing = Exponential(0.25, SOFTMAX)
    first, second = probabilities(0, 0.9), probabilities(1, 0.9)
    assert smoothing.add(first) == (0, pytest.approx(0.9))
    label, score = smoothing.add(second)
    assert (label, score) == (0, pytest.approx(0.25 * second[0] + 0.75 * first[0]))
    smoothing.forget()
    assert smoothing.add(second)[0] == 1


def test_sigmoid_threshold_decides():
    output = OutputSpec(Head.SIGMOID, 0.9)
    assert KOfN(1, 1, output).add(np.array([0.2, 0.8], np.float32))[0] == 0
    assert Exponential(1.0, output).add(np.array([0.05, 0.95], np.float32))[0] == 1


@pytest.mark.parametrize(
    ("rule", "answers", "labels", "events"),
    [
        ({"ignored": ("nothing",)}, [0, 0, 1, 1, 2, 1], ["cat", "cat", "dog", "dog", None, "dog"], [1, 0, 1, 0, 0, 1]),
        ({"min_interval_s": 0.35}, [0, 1, 1, 1, 1], ["cat", "dog", "dog", "dog", "dog"], [1, 0, 0, 0, 1]),
        ({"min_interval_s": 10}, [0, 1, 0, 0], ["cat", "dog", "cat", "cat"], [1, 0, 0, 0]),
    ],
    ids=["told once and again after it was gone", "a change that lasts is told later", "a short change is not told"],
)
def test_events_are_told_once_and_keep_their_distance(rule, answers, labels, events):
    assert decide_all(decider(**rule), answers) == list(zip(labels, map(bool, events), strict=True))


def test_a_video_that_starts_again_is_not_silenced():
    one = decider(min_interval_s=5)
    assert one.decide(probabilities(0), 100.0).event
    assert one.decide(probabilities(1), 0.0).event


def test_under_the_threshold_nothing_is_decided_but_the_score_is_told():
    decision = decider(threshold=0.9).decide(probabilities(0, 0.8), 0.0)
    assert (decision.label, decision.event) == (None, False)
    assert decision.score == pytest.approx(0.8)


def test_after_the_camera_was_away_everything_begins_anew():
    one = decider("2/3")
    decide_all(one, [0, 0])
    one.forget()
    assert one.decide(probabilities(0), 5.0).label is None
    assert one.decide(probabilities(0), 5.1).event


@pytest.mark.parametrize(
    "text", ["0/0", "2/4", "6/5", "1/1001", "0", "0.0", "1.5", "3/", "/5", "x", "", "nan", "-1", "3 / 5"]
)
def test_smoothing_that_makes_no_sense_is_refused_in_one_sentence(text):
    with pytest.raises(UsageError, match=r"--smooth .*expected"):
        parse_smoothing(text, SOFTMAX)


@given(st.text(max_size=12))
def test_any_text_is_parsed_or_refused(text):
    with contextlib.suppress(UsageError):
        parse_smoothing(text, SOFTMAX).add(probabilities(0))
