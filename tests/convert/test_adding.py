"""Variants added to a bundle that exists; what it holds stays, or the addition is refused."""

import shutil

import numpy as np
import pytest

from convert.adding import Held, OtherModelError, read_held
from convert.record import RECORD_FILE, ConversionRecord
from edge_runtime.contract import GOLDEN_FILE, MANIFEST_FILE, Variant
from edge_runtime.errors import IntegrityError, OutputError
from edge_runtime.model.bundle import read_bundle_manifest

ONNX = (Variant.ONNX_FLOAT32, Variant.ONNX_INT8)


@pytest.fixture
def bundle(small_bundle, tmp_path):
    return shutil.copytree(small_bundle, tmp_path / "bundle")


@pytest.fixture
def work_dir(small_bundle, tmp_path):
    with np.load(small_bundle / GOLDEN_FILE) as golden:
        np.save(tmp_path / "golden.npy", golden["images_nhwc_rgb_u8"])
        np.save(tmp_path / "keras-golden.npy", golden["keras"])
    return tmp_path


def facts(bundle, **changes):
    record = ConversionRecord.from_json((bundle / RECORD_FILE).read_text())
    same = {
        "split": record.split,
        "check_images": record.check_images,
        "max_drop_points": record.max_drop_points,
        "calibration_sha256": record.calibration.sha256,
    }
    return {**same, **changes}


def test_a_bundle_grows_and_keeps_what_it_held(small_run, run_program, tmp_path):
    out = tmp_path / "b"
    common = ["edge-convert", "run", small_run, "--out", out, "--max-drop", "100", "--add"]
    assert run_program(*common, "--variant", "onnx-float32").returncode == 0
    before = (out / "colors-onnx-float32.onnx").read_bytes()
    refused = run_program(*common, "--variant", "onnx-float32", "--variant", "float32")
    assert refused.returncode == 7
    assert "already holds onnx-float32" in refused.stderr
    done = run_program(*common, "--variant", "float32", "--variant", "int8")
    assert done.returncode == 0, done.stderr
    assert [a.variant.value for a in read_bundle_manifest(out).artifacts] == ["float32", "int8", "onnx-float32"]
    assert (out / "colors-onnx-float32.onnx").read_bytes() == before
    record = ConversionRecord.from_json((out / RECORD_FILE).read_text())
    assert [entry.artifact.variant.value for entry in record.variants] == ["float32", "int8", "onnx-float32"]
    with np.load(out / GOLDEN_FILE) as golden:
        assert set(golden) == {"images_nhwc_rgb_u8", "keras", "float32", "int8", "onnx-float32"}
    doctor = run_program("edge-run", "doctor", out)
    assert doctor.stdout.count("bit-identical to its conversion") == 3


def test_what_is_made_again_does_not_stay(bundle):
    manifest = read_bundle_manifest(bundle).without_artifacts()
    held = read_held(bundle, manifest, ONNX, overwrite=True)
    assert isinstance(held, Held)
    assert not {entry.artifact.variant for entry in held.record.variants} & set(ONNX)
    assert len(held.files) == len(held.record.passed) == 6
    with pytest.raises(OutputError, match="already holds onnx-float32, onnx-int8; name other variants"):
        read_held(bundle, manifest, ONNX, overwrite=False)


def test_nothing_is_added_to_the_bundle_of_another_model(bundle, work_dir):
    manifest = read_bundle_manifest(bundle).without_artifacts()
    held = read_held(bundle, manifest, ONNX, overwrite=True)
    held.check_same(work_dir, **facts(bundle))
    np.save(work_dir / "keras-golden.npy", np.load(work_dir / "keras-golden.npy")[:, ::-1])
    with pytest.raises(OtherModelError, match="nothing can be added: the model was trained again"):
        held.check_same(work_dir, **facts(bundle))
    (bundle / MANIFEST_FILE).write_text(read_bundle_manifest(bundle).to_json().replace('"red"', '"green"'))
    with pytest.raises(OtherModelError, match="labels, input or training are others"):
        read_held(bundle, manifest, ONNX, overwrite=True)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"check_images": 3}, "it was checked on"),
        ({"max_drop_points": 1.0}, "--max-drop 100, not 1"),
        ({"calibration_sha256": "0" * 64}, "calibration images are others"),
    ],
)
def test_nothing_is_added_that_was_checked_otherwise(bundle, work_dir, change, words):
    held = read_held(bundle, read_bundle_manifest(bundle).without_artifacts(), ONNX, overwrite=True)
    with pytest.raises(OtherModelError, match=words):
        held.check_same(work_dir, **facts(bundle, **change))


def test_a_damaged_bundle_or_another_folder_is_refused(bundle, tmp_path):
    manifest = read_bundle_manifest(bundle).without_artifacts()
    assert read_held(tmp_path / "none", manifest, ONNX, overwrite=False) is None
    with pytest.raises(OutputError, match=r"holds no manifest\.json"):
        read_held(tmp_path, manifest, ONNX, overwrite=False)
    held = read_held(bundle, manifest, ONNX, overwrite=True)
    (bundle / "colors-float32.tflite").write_bytes(b"TFL3")
    with pytest.raises(IntegrityError, match="was altered or damaged"):
        assert held.files
    (bundle / RECORD_FILE).unlink()
    with pytest.raises(IntegrityError, match="convert with --overwrite and without --add"):
        read_held(bundle, manifest, ONNX, overwrite=True)
