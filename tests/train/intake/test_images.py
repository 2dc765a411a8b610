"""Images come from the contract's own preprocessing, in a seeded order, and bad ones are named."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.contract import InputSpec
from edge_runtime.errors import DatasetError
from edge_runtime.preprocess import load_prepared
from edge_runtime.workstation.datasets.folder import read_folder
from edge_runtime.workstation.datasets.samples import Split, read_index, write_split_csv
from support.programs import run_code
from train.intake.images import load_images, write_left_out_csv
from train.recipe import SplitSettings

SPEC = InputSpec(32, 32)


def load(dataset, spec=SPEC, seed=1, **options):
    return load_images(dataset, spec, SplitSettings(validation=0.2, test=0.2), seed, **options)


@pytest.fixture
def images_folder(colored_images, tmp_path):
    """A copy that a test may spoil."""
    return Path(shutil.copytree(colored_images, tmp_path / "colors"))


def test_training_sees_exactly_what_the_device_sees(colored_images):
    data = load(read_folder(colored_images))
    for index in (0, 17, len(data.samples) - 1):
        expected = load_prepared(data.samples[index].path, SPEC)
        np.testing.assert_array_equal(data.images([index])[0], expected)
        assert data.labels[data.targets[index]] == data.samples[index].path.parent.name
    assert all(len(sample.sha256) == 64 for sample in data.samples)
    assert [len(data.rows(split)) for split in Split] == [36, 12, 12]


def test_bad_files_are_named_and_the_rest_is_used(images_folder, tmp_path):
    (images_folder / "blue" / "text.jpg").write_text("no image")
    (images_folder / "blue" / "empty.png").touch()
    shutil.copy(images_folder / "blue" / "blue001.png", images_folder / "red" / "again.png")
    data = load(read_folder(images_folder))
    assert len(data.samples) == len(data.images(range(59))) == len(data.targets) == 59
    reasons = {item.sample.path.name: item.reason for item in data.left_out}
    assert set(reasons) == {"text.jpg", "empty.png", "again.png", "blue001.png"}
    assert "empty file" in reasons["empty.png"]
    assert reasons["again.png"] == "the same file is also labelled blue"
    write_left_out_csv(tmp_path / "left_out.csv", data.left_out)
    header, *rows = (tmp_path / "left_out.csv").read_text().splitlines()
    assert (header, len(rows)) == ("file,label,reason", 4)


def test_a_file_that_is_not_the_one_of_the_index_is_left_out(images_folder, tmp_path):
    first = load(read_folder(images_folder))
    write_split_csv(tmp_path / "index.csv", first.samples)
    shutil.copy(images_folder / "red" / "red001.png", images_folder / "red" / "red002.png")
    (images_folder / "red" / "red003.png").unlink()
    again = load(read_index(tmp_path / "index.csv"), seed=2)
    reasons = {item.sample.path.name: item.reason for item in again.left_out}
    assert set(reasons) == {"red002.png", "red003.png"}
    assert "its SHA-256 is another" in reasons["red002.png"]
    assert "No such file" in reasons["red003.png"]
    kept = [sample for sample in first.samples if sample.path.name not in reasons]
    assert set(again.samples) == set(kept), "an index that says the parts keeps them"


def test_a_class_without_one_readable_image_is_an_error(images_folder):
    for path in (images_folder / "red").iterdir():
        path.write_text(path.name)
    with pytest.raises(DatasetError, match=r"class 'red': none of its 30 images can be used; the first: .*red000.png"):
        load(read_folder(images_folder))


@pytest.mark.usefixtures("cache")
def test_images_are_decoded_once_and_then_come_from_the_cache(images_folder):
    counts = []
    first = load(read_folder(images_folder), progress=counts.append)
    assert len(counts) == 60
    assert isinstance(first.images_nhwc_rgb_u8, np.memmap)
    (images_folder / "blue" / "blue000.png").rename(images_folder / "blue" / "another name.png")
    again = load(read_folder(images_folder), seed=2, progress=counts.append)
    assert len(counts) == 60, "nothing is decoded for another seed or another name"
    np.testing.assert_array_equal(again.images_nhwc_rgb_u8, first.images_nhwc_rgb_u8)
    load(read_folder(images_folder), InputSpec(40, 40), progress=counts.append)
    assert len(counts) == 120, "another geometry is another cache"


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY\x01\x00 broken"])
def test_a_damaged_cache_is_made_again(damage, colored_images, cache):
    expected = np.array(load(read_folder(colored_images)).images_nhwc_rgb_u8)
    images = next((cache / "pixels").glob("*/images.npy"))
    images.write_bytes(damage)
    again = load(read_folder(colored_images))
    np.testing.assert_array_equal(again.images_nhwc_rgb_u8, expected)


def test_caches_that_were_not_used_for_longest_make_room(colored_images, cache, monkeypatch):
    load(read_folder(colored_images))
    first = list((cache / "pixels").iterdir())
    monkeypatch.setenv("EDGEKIT_CACHE_GIB", "0.000001")
    load(read_folder(colored_images), InputSpec(40, 40))
    left = list((cache / "pixels").iterdir())
    assert (len(left), left == first) == (1, False)


FULL_DISK = """
import resource, sys
from pathlib import Path
from edge_runtime.contract import InputSpec
from edge_runtime.workstation.datasets.folder import read_folder
from edge_runtime.errors import OutputError
from train.intake.images import load_images
from train.recipe import SplitSettings
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    load_images(read_folder(Path(sys.argv[1])), InputSpec(32, 32), SplitSettings(0.2, 0.2), 1)
except OutputError as error:
    print(error)
"""


def test_a_full_disk_is_one_sentence_and_leaves_nothing(colored_images, cache):
    done = run_code(FULL_DISK, colored_images)
    assert "prepared images cannot be cached (File too large); free disk space, or set EDGEKIT_CACHE" in done.stdout
    assert list((cache / "pixels").iterdir()) == []


def test_awkward_real_images_are_used_or_named(real_data, images_folder):
    awkward = [path for path in real_data("awkward_images").rglob("*") if path.is_file()]
    for index, path in enumerate(awkward):
        shutil.copy(path, images_folder / "red" / f"awkward{index}-{path.name}")
    dataset = read_folder(images_folder)
    data = load(dataset)
    assert len(data.samples) + len(data.left_out) == len(dataset.samples)
    assert len(data.left_out) > 0
    assert len(data.samples) > 60
