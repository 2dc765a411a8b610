"""A run directory as the source of a conversion, and which images calibrate and check it."""

import hashlib
import json
import shutil
import zipfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convert.options import ForeignOptions, InputRange, Loader, ModelColor, ModelOutput
from convert.source.images import choose_images, list_sha256, stratified
from convert.source.model_source import read_model
from edge_runtime.contract import Crop
from edge_runtime.errors import CompatibilityError, DatasetError, ModelError, UsageError
from edge_runtime.model.bundle import read_bundle_manifest
from edge_runtime.workstation.datasets.samples import Sample, Split

NOTHING_SAID = ForeignOptions()


@given(
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=5), count=st.integers(1, 40), seed=st.integers(0, 2**32 - 1)
)
def test_classes_take_turns_until_one_runs_out(sizes, count, seed):
    samples = [
        Sample(Path(f"{label}/{index}"), f"class{label}") for label, size in enumerate(sizes) for index in range(size)
    ]
    chosen = stratified(samples, count, seed)
    assert len(chosen) == len(set(chosen)) == min(count, len(samples))
    assert chosen == stratified(samples, count, seed)
    counts = Counter(sample.label for sample in chosen)
    for label, size in enumerate(sizes):
        # No class is behind another by more than one, unless it has no more images.
        assert counts[f"class{label}"] >= min(size, max(counts.values()) - 1)


@pytest.fixture(scope="module")
def source(small_run):
    return read_model(small_run, NOTHING_SAID)


def test_a_run_directory_answers_every_question_itself(source, small_run):
    assert source.manifest == read_bundle_manifest(small_run)
    assert (source.path, source.loader) == (small_run / "model.keras", Loader.KERAS3)
    expected = (InputRange.BYTE, ModelColor.RGB, ModelOutput.PROBABILITIES)
    assert (source.input_range, source.color, source.output) == expected
    assert "run directory colors" in source.origin


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (ForeignOptions(labels=Path("l.txt")), "--labels"),
        (ForeignOptions(input_range=InputRange.BYTE, crop=Crop.CENTER), "--input-range, --crop"),
        (ForeignOptions(crop_fraction=0.9, color=ModelColor.RGB), "--crop-fraction, --color"),
        (ForeignOptions(image_size=32, output=ModelOutput.LOGITS, name="x"), "--image-size, --output, --name"),
    ],
)
def test_options_that_a_run_directory_has_no_use_for_are_refused(small_run, options, names):
    with pytest.raises(UsageError, match=f"^{names}: only for a model from elsewhere"):
        read_model(small_run, options)


def test_what_is_no_run_directory_is_said(tmp_path):
    with pytest.raises(ModelError, match=r"expected a run directory .*neither model.keras nor saved_model.pb"):
        read_model(tmp_path, NOTHING_SAID)
    with pytest.raises(ModelError, match="no such file or folder"):
        read_model(tmp_path / "gone", NOTHING_SAID)


def test_a_model_that_is_not_the_manifests_is_refused(small_run, tmp_path):
    run = shutil.copytree(small_run, tmp_path / "run")
    manifest = json.loads((run / "manifest.json").read_text())
    for changed, message in (
        ({"input": {**manifest["input"], "height": 64, "width": 64}}, r"an input of 64x64 .*got \[\?, 32, 32, 3\]"),
        ({"labels": [*manifest["labels"], "green"]}, "3 outputs for the 3 labels of manifest.json, got 2"),
    ):
        (run / "manifest.json").write_text(json.dumps({**manifest, **changed}))
        with pytest.raises(CompatibilityError, match=f"expected {message}"):
            read_model(run, NOTHING_SAID)


def test_code_in_a_run_directory_is_refused_too(small_run, tmp_path):
    run = Path(shutil.copytree(small_run, tmp_path / "run"))
    with zipfile.ZipFile(small_run / "model.keras") as old, zipfile.ZipFile(run / "model.keras", "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "config.json":
                config = json.loads(content)
                config["config"]["layers"].append({"class_name": "Lambda", "config": {"name": "sly"}})
                content = json.dumps(config).encode()
            new.writestr(name, content)
    with pytest.raises(ModelError, match=r"layer 'sly' is a Lambda layer.*--unsafe"):
        read_model(run, NOTHING_SAID)
    assert read_model(run, ForeignOptions(unsafe=True)).unsafe


def test_calibration_comes_from_training_and_checks_from_validation(source, small_run):
    images = choose_images(source, small_run, None, 10, None)
    assert len(images.representative) == 10
    assert Counter(sample.label for sample in images.representative) == {"blue": 5, "red": 5}
    assert {sample.split for sample in images.representative} == {Split.TRAIN}
    assert {sample.split for sample in (*images.check, *images.golden)} == {Split.VALIDATION}
    assert len(images.golden) <= 8
    assert images.seed == source.manifest.training.seed
    other = choose_images(source, small_run, None, 10, 12345)
    assert other.seed == 12345
    assert set(other.representative) != set(images.representative)
    assert other.check == images.check


def test_other_images_take_their_place_when_named(source, small_run, colored_images):
    images = choose_images(source, small_run, str(colored_images), 7, None)
    assert len(images.representative) == 7
    assert len(images.check) == 60


def test_images_labelled_by_index_get_the_models_labels(source, small_run, tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.bin").write_bytes(bytes(32 * 32 * 3))
    (tmp_path / "y_labels.csv").write_text("a.bin,2,1\nb.bin,2,0\nc.bin,2,1\n")
    images = choose_images(source, small_run, str(tmp_path), 7, None)
    found = {sample.path.name: sample.label for sample in images.check}
    assert list(found.items()) == [("b.bin", "blue"), ("a.bin", "red"), ("c.bin", "red")]


def test_labels_that_the_model_does_not_know_are_named(source, small_run, tmp_path):
    for label in ("green", "red"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "x.png").write_bytes(b"x")
    with pytest.raises(DatasetError, match="labels the model does not know: green; expected only blue, red"):
        choose_images(source, small_run, str(tmp_path), 10, None)


def test_images_that_are_gone_or_none_are_said(source, small_run, tmp_path):
    with pytest.raises(UsageError, match=r"has no images of its own; add --calibration"):
        choose_images(source, tmp_path, None, 10, None)
    header = (small_run / "split.csv").read_text().splitlines()[0]
    (tmp_path / "split.csv").write_text(f"{header}\n")
    with pytest.raises(DatasetError, match="expected labelled images to calibrate and check with, got none"):
        choose_images(source, tmp_path, None, 10, None)
    (tmp_path / "split.csv").write_text(f"{header}\n/no/such/image.png,{'0' * 64},red,train\n")
    with pytest.raises(DatasetError, match=r"images are not here.*--calibration"):
        choose_images(source, tmp_path, None, 10, None)


def test_a_list_is_known_by_its_content(tmp_path):
    for name, content in (("a", b"1"), ("b", b"2"), ("c", b"1")):
        (tmp_path / name).write_bytes(content)
    one, two = Sample(tmp_path / "a", "x"), Sample(tmp_path / "b", "y")
    sha256 = [hashlib.sha256(content).hexdigest() for content in (b"1", b"2")]
    expected = hashlib.sha256("\n".join(sorted([f"{sha256[0]} x", f"{sha256[1]} y"])).encode()).hexdigest()
    assert list_sha256((one, two)) == list_sha256((two, one)) == expected
    assert list_sha256((Sample(tmp_path / "c", "x"), two)) == expected
    assert list_sha256((one, Sample(tmp_path / "b", "x"))) != expected
    with pytest.raises(DatasetError, match="cannot be read"):
        list_sha256((Sample(tmp_path / "gone", "x"),))
