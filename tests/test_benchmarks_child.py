"""What the measuring child does with a clock and a call, and what it says when it cannot measure."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from benchmarks import child, keras_child
from benchmarks.measure import summarize_starts
from benchmarks.measuring.artifact_child import ArtifactSubject
from benchmarks.measuring.protocol import ChildAnswer, ChildFailure, ChildSpec, Timeline, read_message, write_message
from benchmarks.statistics import summarize_latencies
from edge_runtime.contract import Head, OutputSpec
from edge_runtime.errors import EngineError, ManifestError


class ScriptedEngine:
    """An engine whose calls take the given time on a clock of its own."""

    def __init__(self, latencies_ms: Iterable[float]) -> None:
        self._latencies_ns = [int(latency * 1e6) for latency in latencies_ms]
        self.now_ns = 0
        self.calls = 0

    def clock_ns(self) -> int:
        return self.now_ns

    def invoke(self) -> None:
        self.now_ns += self._latencies_ns[self.calls % len(self._latencies_ns)]
        self.calls += 1


def test_percentiles_come_from_individual_invocations() -> None:
    engine = ScriptedEngine([4.0, 1.0, 2.0, 300.0, 3.0])
    latencies_ns = child.time_calls(engine.invoke, 5, engine.clock_ns)
    assert latencies_ns == (4_000_000, 1_000_000, 2_000_000, 300_000_000, 3_000_000)
    summary = summarize_latencies(latencies_ns)
    assert (summary.p50_ms, summary.p90_ms) == (3.0, 300.0)


@pytest.mark.parametrize(("latency_ms", "calls"), [(1.0, 500), (60.0, 9), (1000.0, 5)])
def test_warm_up_lasts_five_calls_and_half_a_second(latency_ms: float, calls: int) -> None:
    engine = ScriptedEngine([latency_ms])
    assert child.warm_up(engine.invoke, engine.clock_ns) == calls == engine.calls


def test_cold_start_reports_the_median_start_and_its_parts_add_up() -> None:
    def start(spawned_ms: int, *parts_ms: int) -> tuple[int, Timeline]:
        moments = np.cumsum([spawned_ms, *parts_ms]) * 1_000_000
        return int(moments[0]), Timeline(*(int(moment) for moment in moments[1:]))

    found = summarize_starts([start(1000, 9, 9, 9, 9), start(2000, 1, 1, 1, 1), start(3000, 2, 3, 4, 5)])
    assert found.samples_ms == (36.0, 4.0, 14.0)
    assert found.median_ms == 14.0
    assert (found.interpreter_ms, found.import_ms, found.load_ms, found.first_ms) == (2.0, 3.0, 4.0, 5.0)


def test_artifact_child_refuses_to_report_when_tensorflow_was_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    class Fake:
        engine = types.SimpleNamespace(name="fake", version="1")
        labels = ("a", "b")

        def probabilities(self, _image: object) -> np.ndarray:
            return np.array([0.25, 0.75], np.float32)

        def rank(self, _probabilities: object, top_k: int) -> list[types.SimpleNamespace]:
            return [types.SimpleNamespace(label="b")][:top_k]

    for library in child.TRAINING_LIBRARIES:
        monkeypatch.delitem(sys.modules, library, raising=False)
    subject = ArtifactSubject(Fake())  # type: ignore[arg-type]
    images = np.zeros((3, 4, 4, 3), np.uint8)
    assert subject.top1(images).tolist() == [1, 1, 1]
    monkeypatch.setitem(sys.modules, "tensorflow", types.ModuleType("tensorflow"))
    with pytest.raises(EngineError, match="TensorFlow"):
        subject.top1(images)


@pytest.mark.parametrize(
    ("head", "threshold", "outputs", "expected"),
    [
        (Head.SOFTMAX, 0.0, [[0.2, 0.5, 0.3], [0.4, 0.2, 0.4]], [1, 0]),
        (Head.SIGMOID, 0.5, [[0.49], [0.5], [0.51]], [0, 1, 1]),
        (Head.SIGMOID, 0.75, [[0.7], [0.75]], [0, 1]),
    ],
)
def test_keras_answers_follow_the_head_and_its_threshold(
    head: Head, threshold: float, outputs: list[list[float]], expected: list[int]
) -> None:
    found = keras_child.decide(np.array(outputs, np.float32), OutputSpec(head, threshold))
    assert found.tolist() == expected


def test_messages_survive_the_file_and_a_failure_is_raised(tmp_path: Path) -> None:
    file = tmp_path / "message.json"
    spec = ChildSpec("m", "int8", 2, "p.png", None, "t.npy", 200, "a.json")
    write_message(file, spec)
    assert read_message(ChildSpec, file) == spec
    with pytest.raises(ManifestError, match="ChildAnswer"):
        read_message(ChildAnswer, file)
    write_message(file, ChildFailure("no such operator"))
    with pytest.raises(EngineError, match="no such operator"):
        read_message(ChildAnswer, file)
