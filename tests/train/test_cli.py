"""``edge-train`` as its user meets it: a whole run, its files, its errors and its exit codes."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.contract import Head, Manifest
from edge_runtime.workstation.datasets.samples import count_per_split, fingerprint, read_split_csv
from support.pages import bare
from support.programs import call_cli, check_refusal, run_code, run_module
from support.training import QUICK, curve
from train.cli import cli
from train.recipe import load_recipe


@pytest.mark.slow
def test_a_run_directory_holds_what_it_should(small_run):
    names = {path.name for path in small_run.iterdir()} - {"tensorboard"}
    assert names == {
        *("model.keras", "manifest.json", "recipe.toml", "split.csv", "history.csv", "metrics.json", "report.html")
    }
    manifest = Manifest.from_json((small_run / "manifest.json").read_text())
    assert (manifest.labels, manifest.input.shape_hwc, manifest.artifacts) == (("blue", "red"), (32, 32, 3), ())
    assert manifest.training is not None
    samples = read_split_csv(small_run / "split.csv")
    assert manifest.training.data_sha256 == fingerprint(samples)
    assert manifest.training.images_per_split == count_per_split(samples)
    assert load_recipe(str(small_run / "recipe.toml")).input.image_size == 32
    metrics = json.loads((small_run / "metrics.json").read_text())
    test = metrics["splits"]["test"]
    assert sum(map(sum, test["confusion"])) == test["images"] == manifest.training.images_per_split["test"]
    assert test["accuracy"] == manifest.training.metrics["test_accuracy"]
    rows = curve(small_run)
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    best = max(rows, key=lambda row: (float(row["val_accuracy"]), -float(row["val_loss"])))
    assert float(best["epoch"]) == manifest.training.metrics["best_epoch"]


@pytest.mark.slow
def test_the_report_is_one_file_that_needs_no_network(small_run):
    text = (small_run / "report.html").read_text()
    assert "data:image/png;base64," in text
    assert text.count("data:image/jpeg;base64,") > 4
    assert not [part for part in ("http", "<script") if part in bare(text)]


@pytest.mark.slow
def test_the_same_seed_gives_the_same_model_and_names_are_escaped(run_program, colored_images, tmp_path):
    data = Path(shutil.copytree(colored_images, tmp_path / "data"))
    (data / "red").rename(data / "<b>red & co")
    (data / "blue" / "text.jpg").write_text("no image")
    histories = []
    for out in (tmp_path / "1", tmp_path / "2"):
        done = run_program("edge-train", "run", "--data", data, "--out", out, *QUICK, "--seed", "5")
        assert done.returncode == 0, done.stderr
        histories.append(curve(out))
    assert histories[0] == histories[1]
    assert "text.jpg" in done.stderr
    assert not {"\x1b", "\r"} & set(done.stderr + done.stdout)
    assert f"next                edge-convert run {tmp_path / '2'}" in done.stdout
    report = (tmp_path / "2" / "report.html").read_text()
    assert ("&lt;b&gt;red &amp; co" in report, "<b>red" in report) == (True, False)
    for text in (report, (tmp_path / "2" / "left_out.csv").read_text()):
        assert "text.jpg" in text


@pytest.mark.slow
def test_a_mobilenetv2_from_random_weights_trains_whole(run_program, colored_images, tmp_path):
    out = tmp_path / "run"
    options = ("--recipe", "mobilenetv2", "--weights", "none", "--image-size", "32", "--epochs", "1")
    done = run_program("edge-train", "run", "--data", colored_images, "--out", out, *options)
    assert done.returncode == 0, done.stderr
    assert json.loads((out / "metrics.json").read_text())["feature_images_per_second"] is None
    assert (out / "history.csv").read_text().splitlines()[1].startswith("all,1,")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (shutil.rmtree, "no such folder"),
        (lambda data: shutil.rmtree(data / "red"), "expected at least two folders of images"),
        (lambda data: (data / "green").mkdir(), "holds no images"),
        (
            lambda data: [path.write_text(path.name) for path in (data / "red").iterdir()],
            "class 'red': none of its 30 images can be used",
        ),
        (
            lambda data: [path.unlink() for path in sorted((data / "red").iterdir())[2:]],
            "class 'red': expected at least 3 different readable images",
        ),
    ],
    ids=["no-folder", "one-class", "empty-class", "unreadable-class", "too-few"],
)
def test_a_set_that_cannot_be_trained_on_is_one_sentence_and_exit_3(
    spoil, message, run_program, colored_images, tmp_path
):
    data = Path(shutil.copytree(colored_images, tmp_path / "data"))
    spoil(data)
    done = run_program("edge-train", "run", "--data", data, "--out", tmp_path / "run", *QUICK)
    check_refusal(done, 3, message)
    assert sorted(path.name for path in tmp_path.iterdir()) in (["data"], [])


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--recipe", "resnet"), 2, "expected one of cnn, cnn-small, emotion"),
        (("--image-size", "8"), 2, "image_size must be 32 to 1024, got 8"),
        (("--image-size", "4000"), 2, "image_size must be 32 to 1024, got 4000"),
        (("--epochs", "0"), 2, "--epochs"),
        (("--name", "a/b"), 2, "--name: expected up to 64 letters"),
        (("--weights", "imagenet"), 2, "trains from scratch"),
        (("--recipe", "mobilenetv2", "--weights", "absent.h5"), 2, "no such weight file"),
        (("--out", "/proc/run"), 7, "cannot be written"),
        (("--also", "onnx"), 2, "--also: expected a list of h5, saved_model, weights, got 'onnx'"),
        (("--set", "optimizer.speed=1"), 2, "recipe cnn-small.optimizer.speed: unknown field"),
    ],
)
def test_a_bad_option_is_one_sentence(options, code, message, run_program, colored_images, tmp_path):
    out = () if "--out" in options else ("--out", tmp_path / "run")
    done = run_program("edge-train", "run", "--data", colored_images, *out, *options)
    check_refusal(done, code, message)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_an_existing_run_is_kept_and_a_foreign_folder_never_replaced(run_program, colored_images, small_run, tmp_path):
    command, before = (
        ("edge-train", "run", "--data", colored_images, *QUICK),
        (small_run / "manifest.json").read_bytes(),
    )
    done = run_program(*command, "--out", small_run)
    check_refusal(done, 7, "already exists; choose another name or pass --overwrite")
    assert (small_run / "manifest.json").read_bytes() == before
    (tmp_path / "precious.txt").write_text("mine")
    done = run_program(*command, "--out", tmp_path, "--overwrite")
    assert done.returncode == 7
    assert (tmp_path / "precious.txt").read_text() == "mine"


@pytest.fixture(scope="module")
def two_phase_run(run_program, colored_images, mobilenetv2_weights, tmp_path_factory):
    """A frozen backbone and fine-tuning, with the model in every format."""
    out = tmp_path_factory.mktemp("two") / "run"
    options = ["--image-size", "32", "--epochs", "2", "--set", "finetune.epochs=2", "--set", "fit.patience=1"]
    options += ["--recipe", "mobilenetv2", "--weights", mobilenetv2_weights, "--also", "h5,saved_model,weights"]
    done = run_program("edge-train", "run", "--data", colored_images, "--out", out, *options)
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.slow
def test_the_best_epoch_of_both_phases_is_kept(two_phase_run):
    rows = curve(two_phase_run)
    assert {row["phase"] for row in rows} == {"head", "finetune"}
    assert [int(row["epoch"]) for row in rows] == list(range(1, len(rows) + 1))
    best = max(rows, key=lambda row: (float(row["val_accuracy"]), -float(row["val_loss"])))
    metrics = json.loads((two_phase_run / "metrics.json").read_text())
    assert (metrics["best"]["phase"], metrics["best"]["epoch"]) == (best["phase"], int(best["epoch"]))
    assert metrics["splits"]["validation"]["accuracy"] == pytest.approx(float(best["val_accuracy"]), abs=1e-6)
    assert metrics["feature_images_per_second"] > 0
    assert 0 <= metrics["before_training"]["accuracy"] <= 1


@pytest.mark.slow
def test_every_saved_format_gives_the_same_answers(two_phase_run):
    from train.hardware import load_keras

    load_keras(0)
    import keras
    import tensorflow as tf

    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3)).astype(np.float32)
    model = keras.saving.load_model(two_phase_run / "model.keras")
    expected = model.predict(images, verbose=0)
    from_h5 = keras.saving.load_model(two_phase_run / "model.h5", compile=False)
    np.testing.assert_array_equal(from_h5.predict(images, verbose=0), expected)
    served = tf.saved_model.load(str(two_phase_run / "saved_model")).signatures["serving_default"]
    np.testing.assert_allclose(next(iter(served(tf.constant(images)).values())), expected, atol=1e-6)
    for variable in model.weights:
        variable.assign(np.zeros(variable.shape))
    model.load_weights(two_phase_run / "model.weights.h5")
    np.testing.assert_array_equal(model.predict(images, verbose=0), expected)


@pytest.mark.slow
def test_a_sigmoid_head_trains_predicts_and_converts_to_the_same_answers(run_program, colored_images, tmp_path):
    out, bundle = tmp_path / "run", tmp_path / "bundle"
    options = ("--recipe", "happy-sad", "--image-size", "32", "--epochs", "6", "--set", "head.threshold=f1")
    done = run_program("edge-train", "run", "--data", colored_images, "--out", out, *options)
    assert done.returncode == 0, done.stderr
    manifest = Manifest.from_json((out / "manifest.json").read_text())
    assert manifest.output.head is Head.SIGMOID
    assert 0.0 < manifest.output.decision_threshold < 1.0
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    data = [colored_images / "red", colored_images / "blue", tmp_path / "broken.jpg"]
    said = run_program("edge-train", "predict", out, *data)
    assert said.returncode == 1
    answers = dict(line.split("\t")[:2] for line in said.stdout.splitlines())
    assert answers.pop(str(tmp_path / "broken.jpg")).startswith("error: is not an image")
    assert sum(Path(source).parent.name == label for source, label in answers.items()) >= 55
    done = run_program("edge-convert", "run", out, "--out", bundle, "--max-drop", "100", "--variant", "float32")
    assert done.returncode == 0, done.stderr
    rows = run_program("edge-run", "classify", bundle, *data[:2], "--format", "jsonl").stdout.splitlines()
    exported = {record["source"]: record["label"] for record in map(json.loads, rows)}
    assert exported == answers


def test_recipes_and_help_answer_without_loading_keras():
    script = (
        "import sys; from train.cli import cli; cli.main(sys.argv[1:], standalone_mode=False);"
        "assert not {'keras', 'tensorflow', 'matplotlib', 'cv2'} & set(sys.modules), 'too much is loaded'"
    )
    for arguments in (["recipes"], ["--help"], ["run", "--help"]):
        assert run_code(script, *arguments).stdout
    assert "cnn-small" in run_module("train.cli", "recipes").stdout


def test_predict_loads_nothing_of_audit_training_or_report():
    loaded = run_code("import sys, train.predict; print(*sys.modules)").stdout.split()
    assert not {"imagehash", "matplotlib", "train.intake", "train.rundir"} & set(loaded)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("weights", "least"), [("mobilenet_v2_0.35_224_no_top.h5", 0.92), ("mobilenet_v2_1.0_no_top_derived.h5", 0.96)]
)
def test_cats_and_dogs_reach_what_was_promised(weights, least, run_program, real_data, tmp_path):
    # Fine-tuning can only add to it, so one epoch is enough to see that it does not take away.
    options = ("--recipe", "mobilenetv2", "--weights", real_data("weights") / weights, "--set", "finetune.epochs=1")
    done = run_program(
        "edge-train", "run", "--data", real_data("cats_and_dogs"), "--out", tmp_path / "run", *options, timeout_s=900
    )
    assert done.returncode == 0, done.stderr
    splits = json.loads((tmp_path / "run" / "metrics.json").read_text())["splits"]
    right = sum(splits[name]["accuracy"] * splits[name]["images"] for name in ("validation", "test"))
    assert right / 250 >= least


def test_a_run_directory_whose_name_is_not_utf_8_is_refused_before_training(tmp_path, monkeypatch, capsys):
    out = tmp_path / "run\udcff"
    code, _, err = call_cli(cli, monkeypatch, capsys, "edge-train", "run", "--recipe", "cnn-small", "--out", out)
    assert code == 2
    assert err == f"error: --out {tmp_path}/run\\udcff: expected a path in UTF-8, since TensorFlow writes to no other\n"
