"""``edge-run doctor BUNDLE``: intact, run, compared with its conversion, timed, and the fastest remembered."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from edge_runtime.classifier import Classifier
from edge_runtime.commands.doctor import run_doctor
from edge_runtime.contract import GOLDEN_FILE, MANIFEST_FILE, Check, Variant
from edge_runtime.doctor import replay as doctor_replay
from edge_runtime.doctor.bundle import Measured, Tools, examine_model, judge
from edge_runtime.doctor.findings import Finding, Level
from edge_runtime.doctor.probe import Answer
from edge_runtime.errors import IntegrityError, ModelError
from edge_runtime.model.bundle import find_model, read_bundle_manifest
from edge_runtime.model.sandbox import SandboxOutcome, SandboxResult
from edge_runtime.testing import write_tiny_model
from support.programs import run_code

CHECK = Check("litert 2.3.0", "validation", 10, 0.9, 0.9, 1.0, 0.0, 0.01, 1.0, passed=True)
FACTS = {"engine": "litert 2.3.0", "latency_ms": 1.0, "images": 8}
FACTS |= {"from_keras": 0.01, "from_recorded": 0.001, "changed": 0}


pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def bundle(tiny_bundle, tmp_path):
    """A bundle with golden inputs, to be damaged."""
    copy = shutil.copytree(tiny_bundle, tmp_path / "tiny")
    images = np.random.default_rng(1).integers(0, 50, (6, 8, 8, 3), np.uint8) + np.array([200, 100, 0], np.uint8)
    with Classifier(copy) as classifier:
        answers = np.stack([classifier.probabilities(image) for image in images])
    np.savez(copy / GOLDEN_FILE, images_nhwc_rgb_u8=images, keras=answers + np.float32(0.001), float32=answers)
    return copy


def fake_tools(latency_ms, throttling=()):
    """Children that give these times; a variant without one cannot run."""

    def ask(_question, _path, variant):
        return Answer(FACTS | {"latency_ms": latency_ms[variant]})

    def try_models(paths):
        runs = [any(f"-{variant}." in path.name for variant in latency_ms) for path in paths]
        return [
            SandboxResult(path, SandboxOutcome.OK if good else SandboxOutcome.CRASHED, None if good else "signal 11")
            for path, good in zip(paths, runs, strict=True)
        ]

    return Tools(ask, try_models, lambda: throttling)


def look(path, tools=None):
    measured = Measured()
    return {finding.topic: finding for finding in examine_model(path, measured, tools)}, measured


def test_a_good_bundle_is_replayed_timed_and_remembered(bundle):
    found, measured = look(bundle)
    assert {finding.level for finding in found.values()} == {Level.OK}
    assert "6 golden images bit-identical to its conversion" in found["float32"].found
    assert "within 0.001 of Keras, as in its conversion" in found["int8"].found
    assert set(measured.latency_ms) == {Variant.FLOAT32, Variant.INT8}
    model = find_model(bundle)
    assert model.artifact is not None
    assert model.artifact.variant is measured.default


@pytest.mark.parametrize(("times", "fastest"), [({"float32": 2.0, "int8": 1.0}, "int8"), ({"float32": 1.0}, "float32")])
def test_the_fastest_that_runs_is_taken_from_then_on(bundle, times, fastest):
    found, measured = look(bundle, fake_tools(times))
    assert measured.default is Variant(fastest)
    assert found["default"].level is Level.OK
    assert find_model(bundle).path.name == f"tiny-{fastest}.tflite"
    if "int8" not in times:
        assert found["int8"].level is Level.WARNING
        assert "crashes the runtime (signal 11)" in found["int8"].found


def test_a_slowed_board_measures_nothing(bundle):
    found, measured = look(bundle, fake_tools({"float32": 9.0, "int8": 1.0}, ("under-voltage now",)))
    assert measured.default is None
    assert "expected to be the fastest" in found["default"].found
    found, measured = look(bundle, fake_tools({"float32": 9.0, "int8": 1.0}, ("under-voltage since boot",)))
    assert measured.default is Variant.INT8


def test_nothing_runs(bundle):
    found, _ = look(bundle, fake_tools({}))
    assert found["float32"].level is found["int8"].level is Level.PROBLEM


@pytest.mark.parametrize(
    ("facts", "check", "level"),
    [
        ({}, CHECK, Level.OK),
        ({"from_recorded": 0.0, "from_keras": 0.5}, CHECK, Level.OK),
        ({"from_keras": 0.017}, CHECK, Level.OK),
        ({"from_keras": 0.1}, CHECK, Level.WARNING),
        ({"from_keras": 0.1, "engine": "tflite-runtime 2.14.0"}, CHECK, Level.OK),
        ({"from_keras": 0.2, "engine": "tflite-runtime 2.14.0"}, CHECK, Level.WARNING),
        ({"from_keras": 0.5, "changed": 3}, CHECK, Level.PROBLEM),
        ({"changed": 1}, CHECK, Level.WARNING),
        ({"from_keras": 0.5}, None, Level.INFO),
    ],
)
def test_answers_are_judged_by_what_was_recorded(tiny_bundle, facts, check, level):
    artifact = replace(read_bundle_manifest(tiny_bundle).artifacts[1], check=check)
    finding = judge(artifact, Answer(FACTS | facts))
    assert finding.level is level
    assert (finding.remedy is not None) == (level in (Level.WARNING, Level.PROBLEM))


def test_other_answers_than_in_the_conversion_are_a_problem(bundle):
    with np.load(bundle / GOLDEN_FILE) as golden:
        arrays = dict(golden)
    arrays["keras"], arrays["float32"] = arrays["keras"][:, ::-1], arrays["float32"][:, ::-1]
    np.savez(bundle / GOLDEN_FILE, **arrays)
    found, measured = look(bundle)
    assert found["float32"].level is found["int8"].level is Level.PROBLEM
    assert (measured.latency_ms, measured.default) == ({}, None)


@pytest.mark.parametrize("damage", ["empty", "text", "truncated", "pickle", "shape", "no keras", "huge"])
def test_damaged_golden_inputs_are_refused(bundle, damage, monkeypatch):
    path = bundle / GOLDEN_FILE
    whole = path.read_bytes()
    with np.load(path) as golden:
        arrays = dict(golden)
    if damage in ("empty", "text", "truncated"):
        path.write_bytes({"empty": b"", "text": b"x" * 500, "truncated": whole[: len(whole) // 2]}[damage])
    elif damage == "pickle":
        np.savez(path, images_nhwc_rgb_u8=np.array([object()]), allow_pickle=True)
    elif damage == "shape":
        np.savez(path, **arrays | {"images_nhwc_rgb_u8": arrays["images_nhwc_rgb_u8"][:, :4]})
    elif damage == "no keras":
        np.savez(path, images_nhwc_rgb_u8=arrays["images_nhwc_rgb_u8"])
    else:
        monkeypatch.setattr(doctor_replay, "MOST_GOLDEN_BYTES", 100)
    with pytest.raises(IntegrityError, match=r"copy the bundle again|expected at most"):
        doctor_replay.replay(bundle, "float32")


def test_what_is_no_number_is_far_away(bundle):
    with np.load(bundle / GOLDEN_FILE) as golden:
        arrays = dict(golden)
    np.savez(bundle / GOLDEN_FILE, **arrays | {"keras": np.full((6, 3), np.nan, np.float32)})
    assert doctor_replay.replay(bundle, "float32")["from_keras"] == 1.0


def test_damaged_golden_inputs_are_a_finding(bundle):
    (bundle / GOLDEN_FILE).write_bytes(b"PK")
    found, measured = look(bundle)
    assert (found["float32"].level, found["float32"].remedy) == (Level.PROBLEM, "copy the bundle again")
    assert measured.latency_ms == {}


def test_altered_missing_and_foreign_files(bundle, tmp_path):
    (bundle / "tiny-int8.tflite").write_bytes(b"x")
    found, measured = look(bundle, fake_tools({"float32": 1.0}))
    assert found["int8"].level is Level.PROBLEM
    assert "copy" in f"{found['int8'].remedy}"
    assert measured.default is Variant.FLOAT32
    (bundle / MANIFEST_FILE).write_text("{}")
    (tmp_path / "empty").mkdir()
    for path in (bundle, tmp_path / "empty"):
        assert look(path)[0]["bundle"].level is Level.PROBLEM
    with pytest.raises(ModelError, match="no such file"):
        look(tmp_path / "nothing")


@pytest.mark.parametrize("with_manifest", [True, False])
def test_one_file(tmp_path, with_manifest):
    path = write_tiny_model(tmp_path / "m.tflite", with_manifest=with_manifest)
    finding = look(path)[0]["model"]
    assert finding.level is Level.OK
    assert finding.found.endswith("carries its manifest" if with_manifest else "carries no manifest")
    path.write_bytes(path.read_bytes()[:300])
    assert look(path)[0]["model"].level is Level.PROBLEM


def test_the_tiny_models_are_what_their_builders_give(tmp_path):
    built = write_tiny_model(tmp_path / "built.tflite", with_manifest=False)
    assert doctor_replay.write_tiny(tmp_path, ".tflite").read_bytes() == built.read_bytes()
    onnx = pytest.importorskip("onnx")
    made, kind = onnx.helper, onnx.TensorProto
    cast = made.make_node("Cast", ["image"], ["real"], to=kind.FLOAT)
    mean = made.make_node("ReduceMean", ["real"], ["means"], axes=[1, 2], keepdims=0)
    takes = made.make_tensor_value_info("image", kind.UINT8, [1, 8, 8, 3])
    gives = made.make_tensor_value_info("means", kind.FLOAT, [1, 3])
    graph = made.make_graph([cast, mean], "tiny", [takes], [gives])
    model = made.make_model(graph, opset_imports=[made.make_opsetid("", 13)], ir_version=8, producer_name="edgekit")
    assert onnx.load(doctor_replay.write_tiny(tmp_path, ".onnx")) == model


@pytest.mark.slow
def test_the_report_for_programs_and_no_native_import(bundle):
    code = (
        "import sys; from pathlib import Path; from edge_runtime.commands.doctor import run_doctor\n"
        "code = run_doctor(Path(sys.argv[1]), as_json=True)\n"
        "print(*sys.modules, sep='\\n', file=sys.stderr); sys.exit(code)"
    )
    done = run_code(code, bundle, check=False)
    report = json.loads(done.stdout)
    keys = "schema_version edgekit problems warnings findings default_variant latency_ms"
    assert set(report) == set(keys.split())
    assert (report["schema_version"], done.returncode) == (1, int(report["problems"] > 0))
    assert all(set(finding) == {"topic", "level", "found", "remedy"} for finding in report["findings"])
    assert {"python", "numpy", "opencv", "litert", "bundle", "int8"} <= {item["topic"] for item in report["findings"]}
    assert report["default_variant"] in report["latency_ms"]
    assert not {"numpy", "cv2", "ai_edge_litert", "onnxruntime"} & set(done.stderr.split())


@pytest.mark.parametrize(
    ("level", "code", "summary"),
    [
        (Level.PROBLEM, 1, "1 problem, no warnings"),
        (Level.WARNING, 0, "no problems, 1 warning"),
        (Level.INFO, 0, "no problems, no warnings"),
    ],
)
def test_the_report_for_people(level, code, summary, capsys, monkeypatch):
    findings = [Finding("python", Level.OK, "fine"), Finding("camera", level, "\x1b[31mred", "mend it")]
    monkeypatch.setattr("edge_runtime.commands.doctor.examine", lambda *_: iter(findings))
    assert run_doctor(None, as_json=False) == code
    first, second, remedy, blank, last = capsys.readouterr().out.splitlines()
    assert first.split() == ["ok", "python", "fine"]
    assert "\x1b" not in second
    assert first.index("fine") == second.index("\\x1b") == remedy.index("to do: mend it")
    assert (blank, last) == ("", summary)


def test_what_is_not_there_is_an_error(tmp_path):
    with pytest.raises(ModelError, match="no such file"):
        run_doctor(tmp_path / "nothing", as_json=False)
