"""The camera loop and the health that it keeps: `edge_runtime.pipeline.camera`, `edge_runtime.health`."""

import itertools
import time

import numpy as np
import pytest

from edge_runtime.classifier import Classifier
from edge_runtime.contract import Head, InputSpec, Manifest, OutputSpec
from edge_runtime.model.bundle import ModelFile, ModelOptions
from edge_runtime.pipeline.camera import classify_frames
from edge_runtime.pipeline.decide import Decider, DecisionRule, parse_smoothing
from edge_runtime.pipeline.health import Health
from edge_runtime.results import Classified, Decision, FrameStamp, LatencyMs, SourceState, StateChange
from edge_runtime.testing import FakeEngine, FakeSource, fake_classifier

DARK, LIGHT = np.zeros((24, 32, 3), np.uint8), np.full((24, 32, 3), 255, np.uint8)
CONNECTED = StateChange("fake", SourceState.CONNECTED, 1.0)
AWAY = StateChange("fake", SourceState.RECONNECTING, 2.0, "gave no frame")


def run(items, smooth="none", classifier=None, **options):
    classifier = classifier or fake_classifier()
    decider = Decider(classifier.labels, parse_smoothing(smooth, classifier.output_spec), DecisionRule())
    return list(classify_frames(FakeSource(items), classifier, decider, top_k=2, **options))


def test_answers_come_with_their_frames_and_changes_in_their_place():
    found = run([CONNECTED, DARK, AWAY, LIGHT])
    assert [result for result, _ in found if isinstance(result, StateChange)] == [CONNECTED, AWAY]
    assert [type(result) for result, _ in found] == [StateChange, Classified, StateChange, Classified]
    assert [image is not None for _, image in found] == [False, True, False, True]
    (dark, dark_image), (light, _) = found[1], found[3]
    assert dark_image is DARK
    assert (dark.top[0].label, light.top[0].label) == ("dark", "light")
    assert (dark.frame.number, light.frame.number) == (0, 1)
    assert dark.decision == Decision("dark", 1.0, event=True)


def test_frames_before_an_absence_do_not_count_after_it():
    found = run([CONNECTED, DARK, DARK, AWAY, CONNECTED, DARK, DARK], smooth="2/2")
    labels = [result.decision.label for result, _ in found if isinstance(result, Classified)]
    assert labels == [None, "dark", None, "dark"]
    assert [result.decision.event for result, _ in found if isinstance(result, Classified)] == [False, True] * 2


def test_it_ends_at_its_time():
    started_s = time.perf_counter()
    assert run(itertools.repeat(DARK), until_s=started_s + 0.2)
    assert time.perf_counter() - started_s < 30


def test_an_answer_under_the_reject_threshold_says_so():
    engine = FakeEngine(2)
    manifest = Manifest("fake", ("dark", "light"), InputSpec(8, 8), OutputSpec(Head.SOFTMAX, 0.0, 0.9), training=None)
    model = ModelFile("fake.tflite", manifest, None, ModelOptions())
    half = DARK.copy()
    half[:, :16] = 255
    half[:, :2] = 0
    found = run([DARK, half], classifier=Classifier(model, engine=engine))
    assert [result.rejected for result, _ in found] == [False, True]


def answer(number, age_ms=10.0, *, event=False):
    stamp = FrameStamp(number, number / 30, None, age_ms)
    (result, _), *_ = run([DARK])
    return Classified("fake", result.top, LatencyMs(1.0, 2.0, 3.0), stamp, Decision("dark", 1.0, event=event))


def test_health_counts_what_happened():
    health = Health()
    assert not health.snapshot().healthy
    assert str(health.snapshot()) == "no frames"
    for result in (CONNECTED, answer(0, event=True), answer(4, 30.0), AWAY):
        health.add(result)
    away = health.snapshot()
    assert (away.answered, away.skipped, away.events, away.reconnects) == (2, 3, 1, 0)
    assert (away.state, away.state_reason, away.healthy) == (SourceState.RECONNECTING, "gave no frame", False)
    assert away.age_ms == (10.0, 30.0)
    assert away.last.frame.number == 4
    health.add(CONNECTED)
    back = health.snapshot()
    assert (back.reconnects, back.healthy) == (1, True)
    assert str(back).startswith("2 frames in ")
    assert "3 skipped, 1 event, 1 reconnect, p50 age 30.0 ms" in str(back)


def test_health_rate_is_of_the_last_seconds(monkeypatch):
    health, now_s = Health(), [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now_s[0])
    recorded = [answer(number) for number in range(3)]
    for number in range(60):
        now_s[0] = 200.0 + number / 10
        health.add(recorded[0])
    assert health.snapshot().frames_per_second == pytest.approx(10.0)
    now_s[0] += 60
    assert health.snapshot().frames_per_second == 0.0
    assert health.snapshot().last_answer_age_s == pytest.approx(60.0)


def test_health_tells_the_trouble_of_sinks():
    class Sink:
        name, dropped, problem = "mqtt", 3, "no broker"

    health = Health()
    health.watch([Sink()])
    (sink,) = health.snapshot().sinks
    assert (sink.name, sink.dropped, sink.problem) == ("mqtt", 3, "no broker")
