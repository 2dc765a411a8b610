"""What a benchmark run shall do."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.plan import BenchConfig, check_run, plan_subjects, remarks_on_checks, remarks_on_plan
from benchmarks.settings import Scenario, Settings
from edge_runtime.contract import (
    MANIFEST_FILE,
    Artifact,
    Check,
    Head,
    InputSpec,
    Manifest,
    OutputSpec,
    TensorSpec,
    TrainingSummary,
    Variant,
)
from edge_runtime.errors import CompatibilityError, UsageError

TENSOR = TensorSpec("t", "uint8", (1, 8, 8, 3), 1.0, 0)
CHECK = Check("litert 2", "validation", 50, 0.8, 0.9, 0.85, 0.5, 0.5, 1.0, passed=False)
FLOAT32 = Artifact(Variant.FLOAT32, "m-float32.tflite", "0" * 64, 1, TENSOR, TENSOR, "any", replace(CHECK, passed=True))
INT8 = Artifact(Variant.INT8, "m-int8.tflite", "0" * 64, 1, TENSOR, TENSOR, "any", CHECK)
TRAINING = TrainingSummary("cnn-small", "none", "tensorflow", 0, "photos", "0" * 64, {}, {})
MANIFEST = Manifest("m", ("a", "b"), InputSpec(8, 8), OutputSpec(Head.SOFTMAX, 0.0), TRAINING, (FLOAT32, INT8))
CONFIG = BenchConfig(Path("bundle"), None, Path("run"), Path("out"), False, "", Settings())


def test_plan_measures_keras_first_then_the_artifacts_in_their_order():
    plans = plan_subjects(CONFIG, MANIFEST)
    assert [plan.name for plan in plans] == ["keras-predict", "keras-function", "keras-xla", "float32", "int8"]
    assert [(plan.is_keras, plan.model.is_absolute()) for plan in plans] == [(True, True)] * 3 + [(False, True)] * 2


def test_a_quick_run_keeps_the_baseline_of_keras_and_says_so():
    plans = plan_subjects(replace(CONFIG, settings=Settings(quick=True)), MANIFEST)
    assert [plan.name for plan in plans if plan.is_keras] == ["keras-function"]
    images, ways = remarks_on_plan(replace(CONFIG, settings=Settings(quick=True, limit=150)))
    assert images == "No more than 150 images were drawn, by --quick or --limit."
    assert ways == "keras-predict and keras-xla were left out by --quick."
    assert remarks_on_plan(CONFIG) == ()


def test_plan_keeps_to_the_variants_asked_for_and_needs_no_keras():
    plans = plan_subjects(replace(CONFIG, keras=None, settings=Settings(variants=("int8",))), MANIFEST)
    assert [plan.name for plan in plans] == ["int8"]
    with pytest.raises(UsageError, match="has no variant float16; it holds float32, int8"):
        plan_subjects(replace(CONFIG, settings=Settings(variants=("float16",))), MANIFEST)


def test_plan_knows_size_and_hash_of_what_is_there_and_says_nothing_of_what_is_missing(tmp_path):
    (tmp_path / FLOAT32.file).write_bytes(b"abc")
    there, missing = plan_subjects(replace(CONFIG, keras=None, bundle=tmp_path), MANIFEST)
    assert (there.bytes, there.sha256) == (3, hashlib.sha256(b"abc").hexdigest())
    assert (missing.bytes, missing.sha256) == (0, "")


def test_single_stream_cannot_be_left_out():
    with pytest.raises(UsageError, match="single-stream"):
        Settings(scenarios=(Scenario.OFFLINE,))


def test_a_failed_check_of_a_planned_artifact_is_remarked():
    plans = plan_subjects(CONFIG, MANIFEST)
    (remark,) = remarks_on_checks(MANIFEST, plans)
    assert remark.startswith("int8 did not pass its check at conversion (accuracy 80.0% against 90.0%")
    assert remarks_on_checks(MANIFEST, plans[:4]) == ()


def test_run_is_compared_with_the_bundle(tmp_path):
    (tmp_path / "model.keras").touch()

    def check(**changes):
        (tmp_path / MANIFEST_FILE).write_text(replace(MANIFEST, artifacts=(), **changes).to_json())
        return check_run(tmp_path, MANIFEST)

    assert check() == ()
    (remark,) = check(training=replace(TRAINING, seed=1))
    assert "another run" in remark
    with pytest.raises(CompatibilityError, match="its input"):
        check(input=InputSpec(16, 16))
