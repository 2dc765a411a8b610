"""The gate: its arithmetic on numbers small enough to check by hand, and the process that runs the artifacts."""

import json
import math
import threading
from dataclasses import replace

import numpy as np
import pytest

from convert import check_child, children
from convert.gate import TOLERANCES, FlipPair, Reference, compare, points
from edge_runtime.contract import Head, OutputSpec, Variant
from edge_runtime.errors import CompatibilityError
from edge_runtime.testing import FakeEngine, fake_classifier, write_tiny_model
from edge_runtime.workstation.statistics import wilson_interval
from support.programs import run_code, run_module

SOFTMAX = OutputSpec(Head.SOFTMAX, 0.0)
SIGMOID = OutputSpec(Head.SIGMOID, 0.7)
LABELS = ("cat", "dog")
KERAS = (0.1, 0.2, 0.8, 0.9)


def two_classes(*second):
    return np.array([[1 - value, value] for value in second], np.float32)


def comparison(
    probabilities, *, variant=Variant.INT8, max_drop=1.0, truth=(0, 0, 1, 1), output=SOFTMAX, keras=KERAS, golden=None
):
    reference = Reference("validation", np.array(truth), two_classes(*keras), two_classes(*keras[:2]))
    golden = probabilities[:2] if golden is None else golden
    choices = {"variant": variant, "engine": "test 1", "max_drop_points": max_drop}
    return compare(reference, probabilities, golden, output, LABELS, **choices)


def test_equal_outputs_lose_nothing():
    result = comparison(two_classes(*KERAS))
    assert (result.check.accuracy, result.check.keras_accuracy, result.check.agreement) == (1.0, 1.0, 1.0)
    assert result.check.max_probability_difference == 0.0
    assert result.check.passed
    assert (result.drop_points, result.mcnemar_p, result.flips, result.flip_pairs) == (0.0, 1.0, (), ())
    assert result.accuracy_interval == result.keras_accuracy_interval == wilson_interval(4, 4)
    assert result.calibration_error == result.keras_calibration_error == pytest.approx(0.15)


def test_a_flip_is_counted_and_closes_the_gate():
    flipped = two_classes(0.1, 0.6, 0.8, 0.9)
    result = comparison(flipped)
    assert (result.check.accuracy, result.check.agreement) == (0.75, 0.75)
    assert result.check.max_probability_difference == pytest.approx(0.4)
    assert result.drop_points == 25.0
    assert result.drop_interval_points[0] < 25 < result.drop_interval_points[1]
    assert not result.check.passed
    assert comparison(flipped, max_drop=25.0).check.passed
    assert not comparison(flipped, max_drop=24.9).check.passed


def test_flips_name_the_image_the_surest_wrong_answer_first():
    # Keras is wrong about the last; the artifact is wrong about the second and third, of which it is sure.
    result = comparison(two_classes(0.1, 0.6, 0.05, 0.7), truth=(0, 0, 1, 1), keras=(0.1, 0.2, 0.8, 0.4))
    assert [(flip.index, flip.truth, flip.keras, flip.artifact) for flip in result.flips] == [
        (2, "dog", "dog", "cat"),
        (1, "cat", "cat", "dog"),
        (3, "dog", "cat", "dog"),
    ]
    assert result.flips[0].keras_score == pytest.approx(0.8)
    assert result.flips[0].artifact_score == pytest.approx(0.95)
    assert result.flip_pairs == (FlipPair("cat", "dog", 2), FlipPair("dog", "cat", 1))


def test_a_flip_that_gains_is_no_loss():
    result = comparison(two_classes(0.1, 0.6, 0.8, 0.9), truth=(0, 1, 1, 1))
    assert (result.check.keras_accuracy, result.check.accuracy, result.drop_points) == (0.75, 1.0, -25.0)
    assert result.check.passed


@pytest.mark.parametrize(
    ("variant", "allowed"), [(Variant.FLOAT32, 1e-4), (Variant.ONNX_FLOAT32, 1e-4), (Variant.FLOAT16, 2e-2)]
)
def test_a_float_export_must_also_have_the_same_probabilities(variant, allowed):
    assert TOLERANCES[variant] == allowed
    assert comparison(two_classes(0.1 + allowed / 2, 0.2, 0.8, 0.9), variant=variant).check.passed
    far = two_classes(0.1, 0.2, 0.8 + allowed * 2, 0.9)
    assert not comparison(far, variant=variant).check.passed
    assert comparison(far, variant=Variant.INT8).check.passed
    golden = two_classes(0.1 + allowed * 2, 0.2)
    assert not comparison(two_classes(*KERAS), golden=golden, variant=variant).check.passed


def test_a_sigmoid_head_is_decided_by_its_threshold():
    result = comparison(two_classes(0.1, 0.2, 0.69, 0.9), output=SIGMOID)
    assert [(flip.index, flip.keras, flip.artifact) for flip in result.flips] == [(2, "dog", "cat")]
    assert result.flips[0].artifact_score == pytest.approx(0.31)


@pytest.mark.parametrize("bad", [two_classes(0.1, 0.2, 0.3), two_classes(0.1, 0.2, math.nan, 0.4)])
def test_outputs_that_are_no_answer_are_refused(bad):
    with pytest.raises(CompatibilityError, match="expected probabilities"):
        comparison(bad)


def test_points_do_not_suffer_from_binary_fractions():
    assert points(0.97 - 0.96) == 1.0
    assert points(0.0) == 0.0
    assert points(-0.0112) == -1.12


@pytest.fixture
def work_dir(tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / children.CHECK_FILE, rng.integers(0, 256, (11, 8, 8, 3), np.uint8))
    np.save(tmp_path / children.GOLDEN_INPUT_FILE, rng.integers(0, 256, (2, 8, 8, 3), np.uint8))
    return tmp_path


def run_check(work_dir, *files, **changes):
    job = replace(children.CheckJob(tuple(map(str, files)), str(work_dir)), **changes)
    children.write_message(work_dir / "job.json", job)
    return run_module("convert.check_child", work_dir / "job.json")


def test_an_artifact_that_cannot_be_run_does_not_lose_the_others(work_dir):
    good, late = write_tiny_model(work_dir / "good.tflite"), write_tiny_model(work_dir / "late.tflite")
    bad = work_dir / "bad.tflite"
    bad.write_bytes(good.read_bytes()[:200])
    wrong_size = write_tiny_model(work_dir / "large.tflite", size=16)
    done = run_check(work_dir, good, bad, wrong_size, late)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [str(good), str(bad), str(wrong_size), str(late)]
    images = np.load(work_dir / children.CHECK_FILE)
    for name in ("good.tflite", "late.tflite"):
        seen = children.read_outcome(work_dir, name)
        assert isinstance(seen, children.Observation)
        assert seen.engine.startswith("litert ")
        assert seen.input.shape == (1, 8, 8, 3)
        assert 0 < seen.latency_ms < 50
        outputs = np.load(work_dir / f"{name}-{children.CHECK_FILE}")
        assert outputs.dtype == np.float32
        assert outputs == pytest.approx(images.mean(axis=(1, 2)) / 256, abs=0.6 / 256)
        assert np.load(work_dir / f"{name}-{children.GOLDEN_INPUT_FILE}").shape == (2, 3)
    for name in ("bad.tflite", "large.tflite"):
        failure = children.read_outcome(work_dir, name)
        assert isinstance(failure, children.CheckFailure)
        assert name in failure.message or "litert failed" in failure.message
        assert "\n" not in failure.message
    assert children.read_outcome(work_dir, "never-run.tflite") is None


def test_one_worker_without_timing_gives_the_same_outputs(work_dir):
    model = write_tiny_model(work_dir / "m.tflite")
    assert run_check(work_dir, model, workers=3).returncode == 0
    many = np.load(work_dir / f"m.tflite-{children.CHECK_FILE}")
    assert run_check(work_dir, model, workers=1, is_timed=False).returncode == 0
    assert np.array_equal(np.load(work_dir / f"m.tflite-{children.CHECK_FILE}"), many)
    seen = children.read_outcome(work_dir, "m.tflite")
    assert isinstance(seen, children.Observation)
    assert seen.latency_ms == 0.0


def test_a_failure_replaces_what_an_earlier_file_of_that_name_gave(work_dir):
    model = work_dir / "m.tflite"
    good = write_tiny_model(model).read_bytes()
    for content, kind in (
        (good, children.Observation),
        (b"not a model", children.CheckFailure),
        (good, children.Observation),
    ):
        model.write_bytes(content)
        check_child.check(model, work_dir, 1)
        assert isinstance(children.read_outcome(work_dir, "m.tflite"), kind)
    assert not list(work_dir.glob("*.partial"))


def test_values_that_are_no_numbers_are_a_failure(work_dir, monkeypatch):
    class NanEngine(FakeEngine):
        def invoke(self, input_nhwc):
            return super().invoke(input_nhwc) * np.float32("nan")

    monkeypatch.setattr(check_child, "Classifier", lambda _file: fake_classifier(engine=NanEngine()))
    check_child.check(work_dir / "m.tflite", work_dir, 2)
    failure = children.read_outcome(work_dir, "m.tflite")
    assert isinstance(failure, children.CheckFailure)
    assert failure.message == "gave values that are not numbers; the export is wrong"


def test_outputs_are_in_the_order_of_the_images_and_the_workers_share_them():
    names, all_at_work = set(), threading.Barrier(3)

    class NamedEngine(FakeEngine):
        def invoke(self, input_nhwc):
            names.add(threading.current_thread().name)
            if not self.invocations:
                all_at_work.wait(timeout=30)
            return super().invoke(input_nhwc)

    engines = [NamedEngine(4) for _ in range(3)]
    classifiers = [fake_classifier(("a", "b", "c", "d"), engine) for engine in engines]
    images = np.stack([np.full((8, 8, 3), 64 * (index % 4), np.uint8) for index in range(10)])
    outputs = check_child.run_all(classifiers, images)
    assert outputs.argmax(axis=1).tolist() == [index % 4 for index in range(10)]
    assert sorted(engine.invocations for engine in engines) == [3, 3, 4]
    assert len(names) == 3
    assert check_child.run_all(classifiers, images[:1]).shape == (1, 4)


def test_a_folder_that_cannot_be_read_is_one_sentence(work_dir):
    model = write_tiny_model(work_dir / "m.tflite")
    (work_dir / children.CHECK_FILE).unlink()
    done = run_check(work_dir, model)
    assert done.returncode == 1
    assert "cannot be read or written" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_check_process_is_light():
    heavy = {"tensorflow", "keras", "scipy", "onnx", "jinja2"}
    assert run_code(f"import sys, convert.check_child; print({heavy} & set(sys.modules))").stdout == "set()\n"


def test_latency_is_the_median_and_slow_ones_are_bounded(monkeypatch):
    fast, slow = FakeEngine(), FakeEngine()
    now = {"ns": 0, "calls": 0}
    costs = {id(fast): 1_000_000, id(slow): 150_000_000}

    def invoke(engine):
        now["ns"] += costs[id(engine)]
        now["calls"] += 1

    for engine in (fast, slow):
        monkeypatch.setattr(engine, "invoke", lambda _tensor, engine=engine: invoke(engine))
    monkeypatch.setattr(check_child.time, "perf_counter_ns", lambda: now["ns"])
    assert check_child.median_latencies([fast, slow], np.zeros((8, 8, 3), np.uint8)) == [1.0, 150.0]
    assert now["calls"] == 20 * 11 + 4  # the slow one: a warm-up and three
    assert check_child.median_latencies([], np.zeros((8, 8, 3), np.uint8)) == []


def test_messages_survive_the_disk(tmp_path):
    children.write_message(tmp_path / "m.tflite.error.json", children.CheckFailure("no such operator"))
    assert children.read_outcome(tmp_path, "m.tflite") == children.CheckFailure("no such operator")
    assert json.loads((tmp_path / "m.tflite.error.json").read_text()) == {"message": "no such operator"}
