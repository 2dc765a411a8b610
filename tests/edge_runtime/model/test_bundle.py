"""Bundles and single files: integrity, self-description, and one clear sentence for everything that is wrong."""

import hashlib
import json
import shutil
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from edge_runtime.classifier import Classifier
from edge_runtime.contract import GOLDEN_FILE, Crop, Variant
from edge_runtime.errors import CompatibilityError, EdgeKitError, IntegrityError, ManifestError, ModelError, UsageError
from edge_runtime.model.bundle import ModelOptions, find_model, read_bundle_manifest


@pytest.fixture
def bundle(small_bundle, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(small_bundle, tmp_path / "bundle")


def edit_manifest(bundle, change):
    data = json.loads((bundle / "manifest.json").read_text())
    change(data)
    (bundle / "manifest.json").write_text(json.dumps(data))


def test_every_artifact_alone_knows_what_the_bundle_knows(small_bundle):
    manifest = read_bundle_manifest(small_bundle)
    held = [artifact.variant for artifact in manifest.artifacts]
    assert {Variant.FLOAT32, Variant.INT8, Variant.ONNX_FLOAT32} <= set(held)
    assert held == [variant for variant in Variant if variant in held]
    for artifact in manifest.artifacts:
        model = find_model(small_bundle / artifact.file)
        assert model.manifest == manifest.without_artifacts()


def test_every_artifact_takes_uint8_pixels_as_they_are(small_bundle):
    for artifact in read_bundle_manifest(small_bundle).artifacts:
        assert artifact.input.dtype == "uint8"
        assert artifact.input.shape == (1, 32, 32, 3)
        assert (artifact.input.name, artifact.output.name) == ("image", "probabilities")
        if artifact.variant in (Variant.INT8, Variant.INT8_PER_TENSOR):
            # Pixels stand for about -1 to 1; half a step decides between two zero points.
            assert artifact.input.scale == pytest.approx(1 / 127.5)
            assert artifact.input.zero_point in (127, 128)
            assert artifact.output.scale == 1 / 256


def test_golden_outputs_are_replayed_bit_for_bit(small_bundle):
    # Whoever took the input's scale for 1, or quantized pixels once more, would be far off.
    allowed = {Variant.FLOAT32: 1e-4, Variant.ONNX_FLOAT32: 1e-4, Variant.FLOAT16: 2e-3}
    with np.load(small_bundle / GOLDEN_FILE, allow_pickle=False) as golden:
        for artifact in read_bundle_manifest(small_bundle).artifacts:
            with Classifier(small_bundle, variant=artifact.variant) as classifier:
                replayed = np.stack([classifier.probabilities(image) for image in golden["images_nhwc_rgb_u8"]])
            assert np.array_equal(replayed, golden[artifact.variant.value])
            assert np.abs(replayed - golden["keras"]).max() <= allowed.get(artifact.variant, 0.2)


def test_the_default_of_a_bundle_passed_its_check(bundle):
    def fail_all_but_onnx(data):
        for artifact in data["artifacts"]:
            artifact["check"]["passed"] = artifact["variant"] == "onnx-float32"

    edit_manifest(bundle, fail_all_but_onnx)
    assert find_model(bundle).artifact.variant is Variant.ONNX_FLOAT32
    assert find_model(bundle, Variant.INT8).artifact.variant is Variant.INT8
    edit_manifest(bundle, lambda data: [a["check"].update(passed=False) for a in data["artifacts"]])
    with pytest.raises(ModelError, match="no artifact that can run here passed"):
        find_model(bundle)


def write_bundle_of(folder, tiny_bundle, variants, file=None):
    """A bundle of these variants, each the tiny model or ``file``; all passed their check."""
    folder.mkdir()
    data = (file or tiny_bundle / "tiny-int8.tflite").read_bytes()
    manifest = read_bundle_manifest(tiny_bundle)
    sha256 = hashlib.sha256(data).hexdigest()
    artifacts = []
    for variant in variants:
        name = variant.file_name("tiny")
        (folder / name).write_bytes(data)
        artifacts.append(replace(manifest.artifacts[0], variant=variant, file=name, sha256=sha256, bytes=len(data)))
    (folder / "manifest.json").write_text(replace(manifest, artifacts=tuple(artifacts)).to_json())
    return folder


@pytest.mark.parametrize(
    ("machine", "order"),
    [
        ("aarch64", "int8 int8-per-tensor float32 float16 dynamic onnx-int8 onnx-float32 int16x8"),
        ("x86_64", "float32 float16 int8 int8-per-tensor dynamic onnx-int8 onnx-float32 int16x8"),
    ],
)
def test_the_default_is_what_the_processor_is_presumed_to_run_fastest(
    tiny_bundle, tmp_path, monkeypatch, machine, order
):
    monkeypatch.setattr("platform.machine", lambda: machine)
    left, taken = list(Variant), []
    while left != [Variant.EDGETPU]:
        taken.append(find_model(write_bundle_of(tmp_path / str(len(left)), tiny_bundle, left)).artifact.variant)
        left.remove(taken[-1])
    assert [variant.value for variant in taken] == order.split()
    with pytest.raises(ModelError, match="holds only a model for the Edge TPU, and its delegate is not installed"):
        find_model(write_bundle_of(tmp_path / "rest", tiny_bundle, left))


@pytest.mark.parametrize("name", ["colors-float32.tflite", "colors-int8.tflite", "colors-onnx-float32.onnx"])
def test_an_altered_file_of_a_bundle_is_refused(bundle, name):
    data = bytearray((bundle / name).read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / name).write_bytes(data)
    variant = Variant(name.partition("-")[2].rpartition(".")[0])
    with pytest.raises(IntegrityError, match="was altered or damaged"):
        find_model(bundle, variant)


def test_an_altered_tflite_alone_is_refused(bundle):
    path = bundle / "colors-int8.tflite"
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match="was altered or damaged"):
        find_model(path)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9, 0.999])
@pytest.mark.parametrize("name", ["colors-int8.tflite", "colors-onnx-float32.onnx"])
def test_a_truncated_model_is_one_error(bundle, name, share):
    data = (bundle / name).read_bytes()
    path = bundle / f"cut{(bundle / name).suffix}"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises((ModelError, UsageError)):
        Classifier(path)


@pytest.mark.parametrize("content", [b"", b"hello world" * 99, b"\0" * 4096, b"PK\x05\x06" + b"\0" * 18])
@pytest.mark.parametrize("suffix", [".tflite", ".onnx"])
def test_what_is_no_model_is_one_error(tmp_path, content, suffix):
    path = tmp_path / f"model{suffix}"
    path.write_bytes(content)
    with pytest.raises(ModelError):
        Classifier(path, options=ModelOptions(labels=("a", "b")))


def test_a_missing_artifact_manifest_or_path_is_one_error(bundle, tmp_path):
    (bundle / "colors-int8.tflite").unlink()
    with pytest.raises(IntegrityError, match="is missing"):
        find_model(bundle, Variant.INT8)
    with pytest.raises(UsageError, match="has no variant edgetpu"):
        find_model(bundle, Variant.EDGETPU)
    with pytest.raises(ModelError, match="no such file"):
        find_model(tmp_path / "nothing")
    with pytest.raises(ModelError, match=r"expected a bundle, but manifest\.json"):
        find_model(tmp_path)
    (tmp_path / "model.pb").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"got 'model\.pb'"):
        find_model(tmp_path / "model.pb")


def test_a_manifest_that_does_not_match_the_model_is_refused(bundle):
    edit_manifest(bundle, lambda data: data["input"].update(width=64))
    with pytest.raises(CompatibilityError, match=r"manifest says input \[32, 64, 3\], the model \[32, 32, 3\]"):
        Classifier(bundle)
    edit_manifest(bundle, lambda data: (data["input"].update(width=32), data.update(labels=["blue", "green", "red"])))
    with pytest.raises(CompatibilityError, match="3 labels need 3 outputs, but the model has 2"):
        Classifier(bundle)


def rewrite_zip(path, **members):
    """Replace members of the zip at the end of a TFLite file, keeping the FlatBuffer."""
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
        start = min(info.header_offset for info in archive.infolist())
    contents.update({name.replace("__", "."): value for name, value in members.items()})
    path.write_bytes(path.read_bytes()[:start])
    with zipfile.ZipFile(path, "a") as archive:
        for name, value in contents.items():
            archive.writestr(name, value)


def test_embedded_parts_that_disagree_are_refused(bundle):
    path = bundle / "colors-int8.tflite"
    rewrite_zip(path, labels__txt=b"red\nblue\n")
    with pytest.raises(IntegrityError, match="labels inside the file differ"):
        find_model(path)
    rewrite_zip(path, labels__txt=b"blue\nred\n", manifest__json=b"{}")
    with pytest.raises(ManifestError, match="missing field"):
        find_model(path)
    rewrite_zip(path, manifest__json=b" " * (5 << 20))
    with pytest.raises(IntegrityError, match="expected at most"):
        find_model(path)


def test_the_invalid_models_of_the_wild_are_errors(real_data):
    for path in sorted(real_data("coral/invalid_models").iterdir()):
        if path.suffix == ".tflite":
            with pytest.raises(EdgeKitError):
                Classifier(path, options=ModelOptions(labels=("a", "b"), crop=Crop.CENTER, input_range=(0, 1)))
