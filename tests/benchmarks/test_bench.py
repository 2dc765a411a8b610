"""``edge-bench run`` from the command line to the report, on tiny models that the test makes itself."""

import csv
import functools
import hashlib
import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import cli
from benchmarks.records import ANSWERS_FILE, LATENCIES_FILE, MARKDOWN_FILE, PAGE_FILE, read_report
from edge_runtime.contract import MANIFEST_FILE, Artifact, Head, InputSpec, Manifest, OutputSpec, TensorSpec, Variant
from edge_runtime.model.bundle import file_sha256
from edge_runtime.workstation.datasets.folder import read_folder
from edge_runtime.workstation.datasets.samples import SPLIT_FILE, Split, write_split_csv
from support.files import put
from support.images import write_image
from support.programs import call_cli, run_code

SIDE = 8
LABELS = ("dark", "light")
MANIFEST = Manifest("tiny", LABELS, InputSpec(SIDE, SIDE), OutputSpec(Head.SOFTMAX, 0.0), None)

# The model answers "light" where the mean of an image is above half, and so is always right on these images.
MAKE_KERAS_RUN = """
import sys, keras, numpy as np, tensorflow as tf
from pathlib import Path
folder, side = Path(sys.argv[1]), int(sys.argv[2])
image = keras.Input((side, side, 3), dtype="uint8")
x = keras.layers.Rescaling(1 / 127.5, -1)(image)
x = keras.layers.GlobalAveragePooling2D()(x)
model = keras.Model(image, keras.layers.Dense(2, activation="softmax")(x))
model.layers[-1].set_weights([np.array([[-3.0, 3.0]] * 3, np.float32), np.zeros(2, np.float32)])
model.save(folder / "model.keras")
(folder / "model.tflite").write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())
"""


# Looked up, not imported: TensorFlow has no business in the process that runs the other tests.
needs_keras = pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="TensorFlow is not installed")


@pytest.fixture
def edge_bench(monkeypatch, capsys):
    """Run ``edge-bench`` in this process: exit code, standard output, standard error."""
    return functools.partial(call_cli, cli.cli, monkeypatch, capsys, "edge-bench")


def make_photos(root):
    rng = np.random.default_rng(0)
    for label, level in zip(LABELS, (60, 200), strict=True):
        for number in range(6):
            image = np.clip(rng.normal(level, 20, (12, 16, 3)), 0, 255).astype(np.uint8)
            write_image(root / label / f"{number}.png", image)
    return root


@pytest.fixture
def photos(tmp_path):
    return make_photos(tmp_path / "photos")


@pytest.fixture
def bundle(tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    helper, types, node = onnx.helper, onnx.TensorProto, onnx.helper.make_node
    nodes = [
        node("Cast", ["image"], ["real"], to=types.FLOAT),
        node("ReduceMean", ["real"], ["mean"], axes=[1, 2], keepdims=0),
        node("MatMul", ["mean", "kernel"], ["scaled"]),
        node("Add", ["scaled", "bias"], ["logits"]),
        node("Softmax", ["logits"], ["probabilities"]),
    ]
    kernel = helper.make_tensor("kernel", types.FLOAT, [3, 2], [-0.02, 0.02] * 3)
    bias = helper.make_tensor("bias", types.FLOAT, [2], [7.65, -7.65])
    takes = helper.make_tensor_value_info("image", types.UINT8, [1, SIDE, SIDE, 3])
    gives = helper.make_tensor_value_info("probabilities", types.FLOAT, [1, 2])
    graph = helper.make_graph(nodes, "tiny", [takes], [gives], [kernel, bias])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return write_bundle(tmp_path / "bundle", {Variant.ONNX_FLOAT32: model.SerializeToString()})


def write_bundle(root, models):
    root.mkdir()
    tensor = TensorSpec("t", "uint8", (1, SIDE, SIDE, 3), 0.0, 0)
    artifacts = []
    for variant, data in models.items():
        file = variant.file_name("tiny")
        (root / file).write_bytes(data)
        sha256 = hashlib.sha256(data).hexdigest()
        artifacts.append(Artifact(variant, file, sha256, len(data), tensor, tensor, "any", None))
    (root / MANIFEST_FILE).write_text(replace(MANIFEST, artifacts=tuple(artifacts)).to_json())
    return root


@pytest.mark.slow
def test_run_measures_a_bundle_and_writes_a_report(bundle, photos, tmp_path, edge_bench):
    out = tmp_path / "report"
    short = ["--sessions", "2", "--rounds", "3", "--min-duration", "0.1", "--min-queries", "30"]
    code, printed, said = edge_bench("run", bundle, "--data", photos, "--out", out, *short)
    assert (code, "--keras RUN" in said) == (0, True)
    assert [text for text in ("onnx-float32", str(out / PAGE_FILE)) if text not in printed] == []
    report = read_report(out)
    assert (report.data.part, report.data.images_per_label) == ("all", {"dark": 6, "light": 6})
    assert report.bundle_manifest_sha256 == file_sha256(bundle / MANIFEST_FILE)
    figures = report.subjects[0].performance
    assert figures is not None
    check_figures(figures)
    with (out / LATENCIES_FILE).open() as file:
        latencies_ms = sorted(float(row["latency_ms"]) for row in csv.DictReader(file))
    assert len(latencies_ms) == figures.single_stream.latency.queries
    assert latencies_ms[(len(latencies_ms) - 1) // 2] == pytest.approx(figures.single_stream.latency.p50_ms, abs=1e-6)
    with (out / ANSWERS_FILE).open() as file:
        assert all(row["label"] == row["onnx-float32"] for row in csv.DictReader(file))
    assert report.verdict.variant == "onnx-float32"
    assert all((out / name).stat().st_size for name in (MARKDOWN_FILE, PAGE_FILE))


def check_figures(figures):
    assert (figures.accuracy.top1.hits, figures.accuracy.top1.total) == (12, 12)
    assert figures.runtime.startswith("onnxruntime")
    assert not figures.tensorflow_loaded
    assert figures.single_stream.latency.queries >= 30
    assert len(figures.single_stream.burst_p50_ms) == 6
    assert figures.offline is not None
    assert figures.offline.images_per_s > 0
    assert figures.camera is not None
    assert figures.camera.answered + figures.camera.dropped == figures.camera.frames
    assert figures.stages is not None
    assert figures.stages.images >= 12
    assert 1 in {point.threads for point in figures.threads}
    start = figures.cold_start
    assert len(start.samples_ms) == 3
    parts = start.interpreter_ms + start.import_ms + start.load_ms + start.first_ms
    assert parts == pytest.approx(start.median_ms)
    assert start.steady_ms is not None
    assert start.steady_ms < start.median_ms


def test_a_quick_run_says_what_it_left_out(bundle, photos, tmp_path, edge_bench):
    assert edge_bench("run", bundle, "--data", photos, "--quick", "--out", tmp_path / "report")[0] == 0
    report = read_report(tmp_path / "report")
    assert report.settings.quick
    figures = report.subjects[0].performance
    assert figures is not None
    assert figures.stages is not None
    assert (figures.offline, figures.camera, figures.threads) == (None, None, ())
    assert {"offline", "camera", "threads"} <= {missing.what for missing in figures.not_measured}


@pytest.mark.slow
def test_a_run_can_be_reproduced_from_its_report(bundle, photos, tmp_path, edge_bench):
    first, second = tmp_path / "first", tmp_path / "second"
    options = ["--quick", "--min-queries", "20", "--seed", "3", "--limit", "8"]
    assert edge_bench("run", bundle, "--data", photos, "--out", first, *options)[0] == 0
    assert edge_bench("reproduce", first, "--out", second)[0] == 0
    then, now = read_report(first), read_report(second)
    assert (now.settings, now.data.sha256) == (then.settings, then.data.sha256)
    (photos / "dark" / "0.png").write_bytes((photos / "dark" / "1.png").read_bytes())
    assert edge_bench("reproduce", first, "--out", second)[0] == 7
    assert "set of images" in edge_bench("reproduce", first, "--out", second, "--overwrite")[2]


def test_run_measures_the_rest_when_an_artifact_was_altered(bundle, photos, tmp_path, edge_bench):
    good = (bundle / Variant.ONNX_FLOAT32.file_name("tiny")).read_bytes()
    two = write_bundle(tmp_path / "two", {Variant.INT8: b"not a model", Variant.ONNX_FLOAT32: good})
    (two / Variant.INT8.file_name("tiny")).write_bytes(b"not a model!")
    code, _, said = edge_bench("run", two, "--data", photos, "--quick", "--out", tmp_path / "report")
    assert (code, "int8 was not measured" in said) == (1, True)
    altered, whole = read_report(tmp_path / "report").subjects
    assert altered.performance is None
    assert "altered or damaged" in str(altered.error)
    assert whole.performance is not None


def test_run_names_unreadable_images_and_measures_the_others(bundle, photos, tmp_path, edge_bench):
    (photos / "dark" / "text.jpg").write_text("hello")
    (photos / "light" / "empty.png").touch()
    (photos / "light" / "notes.txt").write_text("not an image by name")
    assert edge_bench("run", bundle, "--data", photos, "--quick", "--out", tmp_path / "report")[0] == 1
    data = read_report(tmp_path / "report").data
    assert {Path(item.file).name for item in data.unreadable} == {"text.jpg", "empty.png"}
    assert (data.images, data.ignored_files) == (12, 1)


def test_run_keeps_to_the_part_and_the_number_asked_for(bundle, tmp_path, edge_bench):
    for part in ("train", "validation", "test"):
        make_photos(tmp_path / "parts" / part)
    options = ["--split", "validation", "--limit", "5", "--quick", "--out", tmp_path / "report"]
    assert edge_bench("run", bundle, "--data", tmp_path / "parts", *options)[0] == 0
    data = read_report(tmp_path / "report").data
    assert (data.part, data.images) == ("validation", 5)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["{bundle}"], 2, "no images to measure on"),
        (["{tmp}/nowhere", "--data", "{photos}"], 4, "expected a bundle"),
        (["{bundle}", "--data", "{tmp}/nowhere"], 3, "no such folder"),
        (["{bundle}", "--data", "{photos}", "--variant", "int8"], 2, "has no variant int8; it holds onnx-float32"),
        (["{bundle}", "--data", "{photos}", "--split", "test"], 2, "is not divided"),
        (["{bundle}", "--data", "{photos}", "--threads", "0"], 2, "--threads"),
        (["{bundle}", "--data", "{photos}", "--out", "{photos}"], 7, "already exists"),
        (["{bundle}", "--data", "{photos}", "--out", "{photos}", "--overwrite"], 7, "will not replace it"),
        (["{bundle}", "--data", "{strange}"], 3, "6 of 12 images have a label that the model does not know: 'cat'"),
    ],
)
def test_what_is_wrong_is_one_sentence(bundle, photos, tmp_path, monkeypatch, edge_bench, arguments, code, said):
    strange = make_photos(tmp_path / "strange")
    (strange / "dark").rename(strange / "cat")
    places = {"bundle": bundle, "photos": photos, "tmp": tmp_path, "strange": strange}
    monkeypatch.chdir(tmp_path)
    found, _, error = edge_bench("run", *(argument.format(**places) for argument in arguments))
    assert (found, said in error, "Traceback" in error) == (code, True, False), error
    assert not (tmp_path / "reports").exists()


@needs_keras
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{tmp}/empty", "--data", "{photos}"], "holds no exported model"),
        (["{bundle}", "--keras", "{photos}"], "expected a run directory"),
        (["{bundle}", "--keras", "{tmp}/run"], "its labels ('light', 'dark') is not the bundle's"),
    ],
    ids=["no-exports", "no-run", "other-labels"],
)
def test_run_refuses_what_does_not_belong_together(bundle, photos, tmp_path, edge_bench, arguments, said):
    write_bundle(tmp_path / "empty", {})
    put(tmp_path, "run/model.keras")
    put(tmp_path, f"run/{MANIFEST_FILE}", replace(MANIFEST, labels=("light", "dark")).to_json())
    places = {"bundle": bundle, "photos": photos, "tmp": tmp_path}
    code, _, error = edge_bench("run", *(argument.format(**places) for argument in arguments))
    assert (code, said in error) == (4, True)


def test_parent_imports_no_training_library_and_its_command_line_nothing_heavy():
    run_code("import benchmarks.cli, sys; assert not {'numpy', 'scipy', 'jinja2', 'cv2'} & set(sys.modules)")
    run_code("import benchmarks.bench, sys; assert not {'tensorflow', 'keras', 'jax'} & set(sys.modules)")


@pytest.mark.slow
@needs_keras
def test_run_compares_tflite_with_keras(photos, tmp_path, monkeypatch, edge_bench):
    run = tmp_path / "run"
    run.mkdir()
    run_code(MAKE_KERAS_RUN, run, SIDE)
    (run / MANIFEST_FILE).write_text(MANIFEST.to_json())
    samples = [
        replace(sample, sha256=file_sha256(sample.path), split=Split.TEST if int(sample.path.stem) > 2 else Split.TRAIN)
        for sample in read_folder(photos).samples
    ]
    write_split_csv(run / SPLIT_FILE, samples)
    bundle = write_bundle(tmp_path / "bundle", {Variant.FLOAT32: (run / "model.tflite").read_bytes()})
    monkeypatch.chdir(tmp_path)
    assert edge_bench("run", bundle, "--keras", run, "--rounds", "3", "--min-duration", "0.2")[0] == 0
    report = read_report(tmp_path / "reports" / "tiny")
    assert (report.data.part, report.data.images, report.data.trained_on) == ("test", 6, 0)
    figures = {subject.name: subject.performance for subject in report.subjects}
    assert list(figures) == ["keras-predict", "keras-function", "keras-xla", "float32"]
    for name, performance in figures.items():
        assert performance is not None
        assert performance.accuracy.top1.hits == 6
        assert performance.tensorflow_loaded == name.startswith("keras")
        assert (performance.against_keras is None) == name.startswith("keras")
    float32 = figures["float32"]
    assert float32 is not None
    assert float32.against_keras is not None
    assert float32.against_keras.agreement.hits == 6
    assert float32.single_stream.speedup is not None
    assert float32.single_stream.speedup.rounds == 6
