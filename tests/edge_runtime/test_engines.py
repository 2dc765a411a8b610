"""The runtimes besides LiteRT on the processor: the Edge TPU through its delegate, and the last tflite-runtime.

A C compiler makes a fake libedgetpu from ``fake_edgetpu.c``; tflite-runtime has a virtual environment of its own, since
it needs numpy 1.
"""

import hashlib
import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.classifier import Classifier
from edge_runtime.contract import Crop, Variant
from edge_runtime.engines import EDGETPU_LIBRARY_VARIABLE, is_edgetpu_library_installed
from edge_runtime.errors import EngineError, UsageError
from edge_runtime.model.bundle import ModelOptions, find_model, read_bundle_manifest
from edge_runtime.testing import write_tiny_bundle
from support.images import plain_image, write_image, write_images
from support.paths import PROGRAMS
from support.tflite_models import Operator, Tensor, build_model

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture(autouse=True)
def _no_library(monkeypatch, tmp_path):
    monkeypatch.setenv(EDGETPU_LIBRARY_VARIABLE, str(tmp_path / "libnothing.so"))


@pytest.fixture(scope="session")
def fake_library(tmp_path_factory):
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler to build the fake libedgetpu")
    library = tmp_path_factory.mktemp("edgetpu") / "libedgetpu.so.1"
    source = PROGRAMS / "fake_edgetpu.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True)
    return library


@pytest.fixture
def log(fake_library, monkeypatch, tmp_path):
    """The fake is installed; what was called is written here."""
    path = tmp_path / "log"
    path.touch()
    monkeypatch.setenv(EDGETPU_LIBRARY_VARIABLE, str(fake_library))
    monkeypatch.setenv("FAKE_EDGETPU_LOG", str(path))
    return path


@pytest.fixture
def bundle(tmp_path):
    """A bundle of float32, int8 and edgetpu."""
    folder = write_tiny_bundle(tmp_path / "bundle")
    manifest = read_bundle_manifest(folder)
    tensors = [Tensor("image", (1, 8, 8, 3), "uint8", 1 / 256), Tensor("probabilities", (1, 3), "uint8", 1 / 256)]
    data = build_model(tensors, [Operator("edgetpu-custom-op", ["image"], ["probabilities"])])
    (folder / "tiny-edgetpu.tflite").write_bytes(data)
    facts = {"file": "tiny-edgetpu.tflite", "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    added = replace(manifest.artifacts[0], variant=Variant.EDGETPU, **facts)
    (folder / "manifest.json").write_text(replace(manifest, artifacts=(*manifest.artifacts, added)).to_json())
    return folder


BLACK = plain_image(0, 8, 8)


def test_without_a_delegate_the_processor_is_the_default(bundle, edge_run):
    assert not is_edgetpu_library_installed()
    assert find_model(bundle).artifact.variant is not Variant.EDGETPU
    with pytest.raises(EngineError, match=r"delegate .*libnothing\.so cannot be used .*run the same bundle with"):
        Classifier(bundle, variant="edgetpu")
    with pytest.raises(EngineError, match="compiled for the Edge TPU"):
        Classifier(bundle, engine="edgetpu:usb")
    code, out, err = edge_run("classify", bundle, bundle, "--engine", "edgetpu")
    assert (code, out) == (3, "")  # no image there
    write_image(bundle / "photo.png", BLACK)
    code, out, err = edge_run("classify", bundle, bundle / "photo.png", "--engine", "edgetpu")
    assert (code, out, err.count("\n")) == (5, "", 1)
    assert "--variant" in err


def test_with_a_delegate_the_edge_tpu_is_the_default(bundle, log):
    with Classifier(bundle) as classifier:
        assert classifier.model.artifact.variant is Variant.EDGETPU
        assert (classifier.engine.name, classifier.engine.accelerator) == ("litert", "edgetpu")
        assert (classifier.note, classifier.probabilities(BLACK).shape) == (None, (3,))
    assert log.read_text().splitlines()[-2:] == ["create", "invoke"]


def test_the_device_is_passed_on(bundle, log):
    Classifier(bundle, engine="edgetpu:usb:1").close()
    assert log.read_text().splitlines()[-2:] == ["deviceusb:1", "create"]  # after the sandbox


@pytest.mark.usefixtures("log")
def test_an_edge_tpu_that_fails_gives_way_to_the_processor_and_says_so(bundle, monkeypatch, edge_run):
    monkeypatch.setenv("FAKE_EDGETPU_BROKEN", "1")
    with Classifier(bundle) as classifier:
        assert classifier.model.artifact.variant is not Variant.EDGETPU
        assert classifier.engine.accelerator is None
        assert "no device found" in classifier.note
        assert "runs on the processor instead" in classifier.note
        assert classifier.classify(plain_image((9, 200, 30), 8, 8))[0].label == "green"
    for wish in ({"variant": "edgetpu"}, {"engine": "edgetpu"}):
        with pytest.raises(EngineError, match="no device found"):
            Classifier(bundle, **wish)
    write_images(bundle / "images", [0] * 6)
    code, out, err = edge_run("classify", bundle, bundle / "images", "--format", "jsonl", "--workers", "2")
    assert (code, len(out.splitlines()), err.count("on the processor instead")) == (0, 6, 1)


def test_a_model_from_elsewhere_runs_after_a_trial(log, real_data):
    path = real_data("coral/mobilenet_v1_0.25_128_quant_edgetpu.tflite")
    with Classifier(path, options=ModelOptions(crop=Crop.CENTER)) as classifier:
        assert len(classifier.labels) == 1001
        assert log.read_text().split() == ["create", *["invoke"] * 3, "create"]


def test_an_engine_must_fit_the_file(bundle, log):
    with pytest.raises(UsageError, match="was not compiled for the Edge TPU"):
        Classifier(bundle, variant="int8", engine="edgetpu")
    for wrong in ("tpu", "litert:usb", "edgetp"):
        with pytest.raises(UsageError, match="--engine: expected auto"):
            Classifier(bundle, engine=wrong)
    assert log.read_text() == ""


@pytest.mark.parametrize("wrong", ["tpu", "litert:usb", "edgetpu:" + "x" * 99])
def test_a_wrong_engine_on_the_command_line_is_wrong_usage(wrong, bundle, edge_run):
    code, out, err = edge_run("inspect", bundle, "--engine", wrong)
    assert (code, out) == (2, "")
    assert "edgetpu:DEVICE" in err


REPLAY = """
import json, sys, numpy as np
from edge_runtime import Classifier
with np.load(sys.argv[1] + "/golden.npz", allow_pickle=False) as golden:
    images = golden["images_nhwc_rgb_u8"]
    result = {}
    for variant in ("float32", "int8"):
        with Classifier(sys.argv[1], variant=variant) as classifier:
            outputs = [classifier.probabilities(image).tolist() for image in images]
            result[variant] = {"engine": classifier.engine.name, "outputs": outputs}
print(json.dumps(result))
"""


@pytest.fixture(scope="module")
def replayed(tflite_python, small_bundle):
    done = tflite_python("-c", REPLAY, small_bundle)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(("variant", "tolerance"), [("float32", 1e-5), ("int8", 0.15)])
def test_the_artifacts_open_and_give_about_what_litert_gives(replayed, small_bundle, variant, tolerance):
    # Its int8 kernels round differently from LiteRT's, by up to 28/255 on a few outputs; float only in the last digits.
    assert replayed[variant]["engine"] == "tflite-runtime"
    with np.load(small_bundle / "golden.npz", allow_pickle=False) as golden:
        assert np.abs(np.array(replayed[variant]["outputs"]) - golden[variant]).max() <= tolerance


def test_classify_runs_on_it(tflite_python, small_bundle, colored_images):
    arguments = ["--engine", "tflite-runtime", "--format", "jsonl", "--variant", "int8"]
    done = tflite_python("-m", "edge_runtime.cli", "classify", small_bundle, colored_images, *arguments)
    assert done.returncode == 0, done.stderr
    records = map(json.loads, done.stdout.splitlines())
    right = [record["label"] == Path(record["source"]).parent.name for record in records]
    assert len(right) == 60
    assert np.mean(right) > 0.9
