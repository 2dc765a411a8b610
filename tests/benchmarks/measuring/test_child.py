"""What a measuring child does with a clock, a call and an image file, and what it refuses to report."""

import itertools
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.measuring import child
from benchmarks.measuring.artifact_child import ArtifactSubject, delegate_of, describe_operators
from benchmarks.measuring.protocol import AskBurst, AskStages, CameraTrace, decode, encode
from edge_runtime.classifier import Classifier
from edge_runtime.errors import EngineError
from edge_runtime.testing import TINY_LABELS, FakeEngine, fake_classifier
from support.images import plain_image, write_image
from support.programs import run_code


class ScriptedEngine:
    """An engine whose calls take the given time on a clock of its own, and which remembers what it was given."""

    def __init__(self, *latencies_ms):
        self._latencies_ns = itertools.cycle(int(latency * 1e6) for latency in latencies_ms)
        self.now_ns, self.given = 0, []

    def clock_ns(self):
        return self.now_ns

    def call(self, image):
        self.now_ns += next(self._latencies_ns)
        self.given.append(image)


def images(count):
    return [np.full((2, 2, 3), number, np.uint8) for number in range(count)]


def test_each_call_is_timed_by_itself_on_images_in_turn():
    engine, two = ScriptedEngine(4.0, 1.0, 300.0), images(2)
    latencies_ns = child.time_calls(engine.call, two, 0.0, 5, engine.clock_ns)
    assert latencies_ns == (4_000_000, 1_000_000, 300_000_000, 4_000_000, 1_000_000)
    assert [image[0, 0, 0] for image in engine.given] == [0, 1, 0, 1, 0]


@pytest.mark.parametrize(
    ("latency_ms", "duration_s", "queries", "calls"),
    [(1.0, 0.2, 10, 200), (1.0, 0.005, 10, 10), (100.0, 0.25, 1, 3), (1.0, 0.0, 0, 0)],
)
def test_a_burst_reaches_its_duration_and_its_queries(latency_ms, duration_s, queries, calls):
    engine = ScriptedEngine(latency_ms)
    assert len(child.time_calls(engine.call, images(3), duration_s, queries, engine.clock_ns)) == calls


@pytest.mark.parametrize(("latency_ms", "calls"), [(1.0, 200), (60.0, 4), (1000.0, 2)])
def test_warm_up_lasts_its_time_and_two_calls(latency_ms, calls):
    engine = ScriptedEngine(latency_ms)
    assert child.warm_up(engine.call, images(3), 0.2, engine.clock_ns) == calls == len(engine.given)


def test_a_burst_counts_processor_time_and_waiting_of_the_timed_calls(tmp_path):
    np.save(tmp_path / "images.npy", np.stack(images(20)))
    seen = set()
    burst = child.time_burst(
        lambda image: seen.add(int(image[0, 0, 0])), AskBurst(str(tmp_path / "images.npy"), 0.0, 0.02, 50)
    )
    assert len(burst.latencies_ns) >= 50
    assert sum(burst.latencies_ns) >= 20_000_000
    assert burst.cpu_ns > 0
    assert burst.waiting_ns is None or burst.waiting_ns >= 0
    # Images often come sorted by label, so those in turn are spread over the set.
    assert (len(seen), max(seen) >= 16) == (8, True)


@given(st.integers(1, 500), st.integers(1, 100))
def test_spread_takes_different_images_from_the_whole_set(count, wanted):
    chosen = child.spread(count, wanted)
    assert len(chosen) == min(count, wanted)
    assert chosen == sorted(set(chosen))
    assert 0 <= chosen[0] <= chosen[-1] < count
    gaps = {later - earlier for earlier, later in itertools.pairwise(chosen)}
    assert not gaps or max(gaps) - min(gaps) <= 1


def test_a_list_of_paths_keeps_names_that_are_no_utf8_and_odd_line_ends(tmp_path):
    names = ["/a/plain.jpg", "/a/\udcff.jpg", "/a/next\x85line\u2028.jpg", "/a/ blank "]
    file = tmp_path / "paths.txt"
    file.write_text("".join(f"{name}\n" for name in names), encoding="utf-8", errors="surrogateescape")
    assert child.read_paths(str(file)) == [Path(name) for name in names]


def test_memory_of_this_process_is_plausible():
    found = child.memory()
    if found.peak_bytes is None:
        pytest.skip("this kernel has no /proc/self/status")
    assert 10_000_000 < found.resident_bytes <= found.peak_bytes


@pytest.fixture
def tiny(tiny_bundle):
    with Classifier(tiny_bundle, variant="int8") as classifier:
        yield ArtifactSubject(classifier)


@pytest.fixture
def photos(tmp_path):
    """Three plain images, and the text file that lists them."""
    for label, bgr in zip(TINY_LABELS, np.eye(3, dtype=np.uint8)[::-1] * 200, strict=True):
        write_image(tmp_path / f"{label}.png", plain_image(bgr, 40, 30))
    listed = tmp_path / "list.txt"
    listed.write_text("".join(f"{tmp_path / label}.png\n" for label in TINY_LABELS))
    return listed


def test_the_stages_of_an_artifact_add_up_to_what_the_classifier_answers(tiny, tiny_bundle, photos):
    with Classifier(tiny_bundle, variant="int8") as classifier:
        for path in child.read_paths(str(photos)):
            output = tiny.invoke(tiny.prepare(tiny.decode(path)))
            assert tiny.postprocess(output) == classifier.classify(path)


def test_the_stages_of_a_float_input_look_up_what_the_classifier_looks_up():
    """The seam between invoke and postprocess is the classifier's own arithmetic, for foreign models too."""
    classifier = fake_classifier()
    prepared, subject = np.full((8, 8, 3), 200, np.uint8), ArtifactSubject(classifier)
    assert subject.postprocess(subject.invoke(prepared)) == classifier.classify(prepared)
    assert subject.runtime == "fake 1"


def test_each_stage_is_timed_for_each_image(tiny, photos):
    times = child.time_stages(tiny, AskStages(str(photos), 2))
    for stage in (times.decode_ns, times.preprocess_ns, times.invoke_ns, times.postprocess_ns):
        assert len(stage) == 2
        assert min(stage) > 0


def test_stages_of_an_empty_list_are_one_sentence(tiny, tmp_path):
    (tmp_path / "empty.txt").touch()
    with pytest.raises(EngineError, match="expected a list of images, got an empty file"):
        child.time_stages(tiny, AskStages(str(tmp_path / "empty.txt"), 2))


def test_answers_are_the_classifiers_probabilities_in_label_order(tiny):
    images = np.zeros((3, 8, 8, 3), np.uint8)
    for channel in range(3):
        images[channel, :, :, channel] = 128
    assert tiny.answers(images).tolist() == (np.eye(3) * 0.5).tolist()


@pytest.mark.parametrize("library", child.TRAINING_LIBRARIES)
def test_an_artifact_is_not_reported_when_a_training_library_was_imported(monkeypatch, library):
    for name in child.TRAINING_LIBRARIES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    subject = ArtifactSubject(fake_classifier())
    subject.check()
    monkeypatch.setitem(sys.modules, library, types.ModuleType(library))
    with pytest.raises(EngineError, match="TensorFlow"):
        subject.check()


def operator(name, inputs, outputs):
    return {"op_name": name, "inputs": np.array(inputs, np.int32), "outputs": np.array(outputs, np.int32)}


def test_the_delegate_tells_how_many_operators_it_took_over():
    chain = [operator("QUANTIZE", [0], [1]), operator("CONV_2D", [1, 9], [2]), operator("MEAN", [2], [3])]
    assert describe_operators(chain) == "cpu"
    assert describe_operators([*chain, operator("DELEGATE", [0, 9], [3])]) == "xnnpack"
    assert describe_operators([*chain, operator("DELEGATE", [1, 9], [3])]) == "xnnpack (2 of 3 operators)"
    split = [operator("DELEGATE", [0], [1]), operator("DELEGATE", [2], [3])]
    assert describe_operators([*chain, *split]) == "xnnpack (2 of 3 operators)"


def test_an_accelerator_is_its_own_delegate_and_an_unknown_runtime_says_nothing():
    engine = FakeEngine()
    assert delegate_of(engine) is None
    engine.accelerator = "edgetpu"
    assert delegate_of(engine) == "edgetpu"


def test_a_message_survives_its_line():
    message = CameraTrace(1280, 720, 60, (1, 2, 3))
    line = encode(message)
    assert line.count("\n") == 1
    assert decode(line) == message


@given(st.text(max_size=40))
def test_a_line_that_is_no_message_is_one_sentence(line):
    with pytest.raises(EngineError, match="expected a message"):
        decode(line)


def test_the_child_that_measures_artifacts_imports_nothing_of_the_report():
    code = "import sys; from benchmarks.measuring import artifact_child, artifact_scenarios; print(*sys.modules)"
    done = run_code(code)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "edge_runtime" in loaded
    assert not loaded & {"scipy", "matplotlib", "jinja2", "pandas", *child.TRAINING_LIBRARIES}
