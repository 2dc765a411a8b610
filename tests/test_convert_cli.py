"""`edge-convert run` as its user sees it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from convert.bundle import write_bundle
from convert.cli import cli
from convert.export_child import _EXPORTERS
from convert.job import GOLDEN_INPUT_FILE, SUPPORTED_VARIANTS
from convert.run_source import read_run
from edge_runtime.errors import GateError
from edge_runtime.modelfile import read_bundle_manifest


def test_every_variant_that_is_offered_has_an_exporter():
    assert tuple(_EXPORTERS) == SUPPORTED_VARIANTS


def test_a_bundle_holds_what_the_design_says(small_bundle, small_run):
    names = {path.name for path in small_bundle.iterdir()}
    files = {"colors-float32.tflite", "colors-int8.tflite", "colors-onnx-float32.onnx"}
    assert names == files | {"manifest.json", "labels.txt", "golden.npz", "conversion.md"}
    assert (small_bundle / "labels.txt").read_text() == "blue\nred\n"
    manifest = read_bundle_manifest(small_bundle)
    assert manifest.without_artifacts() == read_bundle_manifest(small_run)
    for artifact in manifest.artifacts:
        assert artifact.bytes == (small_bundle / artifact.file).stat().st_size
        assert artifact.check is not None
        assert artifact.check.images > 0
        expected = "onnxruntime" if artifact.file.endswith(".onnx") else "litert"
        assert artifact.check.engine.startswith(expected)
        if "float32" in artifact.variant.value:
            assert artifact.check.max_probability_difference <= 1e-4
            assert artifact.check.agreement == 1.0
    report = (small_bundle / "conversion.md").read_text()
    assert all(artifact.variant.value in report for artifact in manifest.artifacts)


def test_onnx_is_valid_and_says_what_it_is(small_bundle):
    import onnx

    model = onnx.load(str(small_bundle / "colors-onnx-float32.onnx"))
    onnx.checker.check_model(model, full_check=True)
    assert [value.name for value in model.graph.input] == ["image"]
    assert [value.name for value in model.graph.output] == ["probabilities"]
    properties = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(properties["edgekit.manifest"])["labels"] == ["blue", "red"]


def test_tflite_metadata_is_what_its_schema_says(small_bundle):
    from convert.tflite_model import unpack_model

    model = unpack_model((small_bundle / "colors-int8.tflite").read_bytes())
    entries = {entry.name.decode(): entry.buffer for entry in model.metadata}
    metadata = bytes(model.buffers[entries["TFLITE_METADATA"]].data)
    assert metadata[4:8] == b"M001"
    assert b"labels.txt" in metadata
    assert b"image" in metadata


def test_conversion_refuses_to_replace_unless_asked(run_program, small_run, small_bundle, tmp_path):
    bundle = shutil.copytree(small_bundle, tmp_path / "bundle")
    done = run_program("edge-convert", "run", small_run, "--out", bundle)
    assert done.returncode == 7
    assert done.stderr.startswith("error: ")
    assert "--overwrite" in done.stderr
    assert read_bundle_manifest(bundle) == read_bundle_manifest(small_bundle)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["no-such-run"], 4, "expected a run directory"),
        (["no-such-run", "--variant", "int4"], 2, "int4"),
        (["no-such-run", "--max-drop", "-1"], 2, "max-drop"),
        (["no-such-run", "--calibration-images", "0"], 2, "calibration-images"),
    ],
)
def test_bad_arguments_are_one_sentence(run_program, tmp_path, arguments, code, message):
    done = run_program("edge-convert", "run", *arguments, "--out", tmp_path / "bundle")
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "bundle").exists()


def test_the_same_run_gives_the_same_bytes(run_program, small_run, small_bundle, tmp_path):
    done = run_program(
        "edge-convert", "run", small_run, "--variant", "int8", "--out", tmp_path / "b", "--max-drop", "100"
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "b/colors-int8.tflite").read_bytes() == (small_bundle / "colors-int8.tflite").read_bytes()


def with_failed(manifest, *variants):
    """The manifest with the checks of some artifacts turned into failures."""
    artifacts = [
        replace(artifact, check=replace(artifact.check, passed=artifact.variant.value not in variants))
        for artifact in manifest.artifacts
    ]
    return replace(manifest, artifacts=tuple(artifacts))


@pytest.fixture
def work_dir(small_bundle, tmp_path):
    """What a conversion has in its work folder when it comes to writing the bundle."""
    folder = tmp_path / "work"
    folder.mkdir()
    with np.load(small_bundle / "golden.npz") as golden:
        np.save(folder / GOLDEN_INPUT_FILE, golden["images_nhwc_rgb_u8"])
        np.save(folder / f"keras-{GOLDEN_INPUT_FILE}", golden["keras"])
        for artifact in read_bundle_manifest(small_bundle).artifacts:
            np.save(folder / f"{artifact.file}-{GOLDEN_INPUT_FILE}", golden[artifact.variant.value])
            shutil.copy(small_bundle / artifact.file, folder)
    return folder


def test_an_export_that_failed_its_check_is_reported_and_left_out(small_bundle, small_run, work_dir, tmp_path):
    measured = with_failed(read_bundle_manifest(small_bundle), "int8")
    write_bundle(tmp_path / "b", measured, work_dir, read_run(small_run, None, 4), overwrite=False)
    assert not (tmp_path / "b/colors-int8.tflite").exists()
    assert [a.variant.value for a in read_bundle_manifest(tmp_path / "b").artifacts] == ["float32", "onnx-float32"]
    assert "Not in the bundle, because it failed its check: int8." in (tmp_path / "b/conversion.md").read_text()


def test_nothing_is_written_when_every_export_failed(small_bundle, small_run, work_dir, tmp_path):
    measured = with_failed(read_bundle_manifest(small_bundle), "float32", "int8", "onnx-float32")
    write_bundle(tmp_path / "b", measured, work_dir, read_run(small_run, None, 4), overwrite=False)
    assert not (tmp_path / "b").exists()


def test_the_exit_code_says_that_an_export_failed(small_bundle, monkeypatch):
    measured = with_failed(read_bundle_manifest(small_bundle), "int8")
    monkeypatch.setattr("convert.conversion.convert_run", lambda *_args, **_kwargs: (small_bundle, measured))
    result = CliRunner().invoke(cli, ["run", "a-run"])
    assert isinstance(result.exception, GateError)
    assert result.exception.exit_code == 8
    assert "int8" in str(result.exception)
    assert "FAILED" in result.output


def test_a_model_that_holds_constants_converts_like_any_other(run_program, small_run, tmp_path):
    """EfficientNets begin with a Normalization layer, whose mean and variance are no variables."""
    import keras

    run = Path(shutil.copytree(small_run, tmp_path / "run"))
    trained = keras.saving.load_model(run / "model.keras")
    image = keras.Input((32, 32, 3), name="image")
    normalized = keras.layers.Normalization(mean=[10.0, 20.0, 30.0], variance=[1.5, 2.0, 0.5])(image)
    keras.Model(image, trained(normalized)).save(run / "model.keras")
    done = run_program("edge-convert", "run", run, "--out", tmp_path / "bundle", "--max-drop", "100")
    assert done.returncode == 0, done.stderr
    assert len(read_bundle_manifest(tmp_path / "bundle").artifacts) == 3


@pytest.mark.slow
def test_killing_the_conversion_leaves_no_bundle(small_run, tmp_path):
    program = Path(sys.executable).with_name("edge-convert")
    bundle = tmp_path / "bundles" / "b"
    # The work folder of a conversion, and so its name in the command lines of its children, lies in the temporary one.
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    for seconds in (0.5, 4.0):
        child = subprocess.Popen(
            [program, "run", small_run, "--out", bundle], stderr=subprocess.DEVNULL, env=environment
        )
        time.sleep(seconds)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        assert not bundle.exists()
    deadline = time.monotonic() + 20
    while _processes_that_name(str(tmp_path)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _processes_that_name(str(tmp_path))


def _processes_that_name(text):
    found = []
    for command_line in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if text in command_line.read_bytes().decode(errors="replace"):
                found.append(command_line.parent.name)
    return found


def test_golden_inputs_are_real_pictures_of_the_models_size(small_bundle):
    with np.load(small_bundle / "golden.npz", allow_pickle=False) as golden:
        images = golden["images_nhwc_rgb_u8"]
        assert images.dtype == np.uint8
        assert images.shape[1:] == (32, 32, 3)
        assert golden["keras"].shape == (len(images), 2)
        assert len(np.unique(images)) > 100
