"""Pictures come from the contract's own preprocessing, in a seeded order, and bad ones are named."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.contract import InputSpec
from edge_runtime.datasets.folder import read_folder
from edge_runtime.datasets.samples import Split
from edge_runtime.errors import DatasetError, UsageError
from edge_runtime.preprocess import load_prepared
from train.backend import load_keras
from train.pictures import load_pictures, write_left_out_csv
from train.recipe import SplitSettings

SHARES = SplitSettings(validation=0.2, test=0.2)
SPEC = InputSpec(32, 32)


@pytest.fixture
def pictures_folder(colored_pictures: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(colored_pictures, tmp_path / "colors"))


def test_training_sees_exactly_what_the_device_sees(colored_pictures: Path) -> None:
    pictures = load_pictures(read_folder(colored_pictures), SPEC, SHARES, seed=1)
    for index in (0, 17, len(pictures.samples) - 1):
        expected = load_prepared(pictures.samples[index].path, SPEC)
        np.testing.assert_array_equal(pictures.images_nhwc_rgb_u8[index], expected)
        assert pictures.labels[pictures.targets[index]] == pictures.samples[index].path.parent.name
    assert all(len(sample.sha256) == 64 for sample in pictures.samples)
    assert [len(pictures.rows(split)) for split in Split] == [36, 12, 12]


def test_bad_files_are_named_and_the_rest_is_used(pictures_folder: Path, tmp_path: Path) -> None:
    (pictures_folder / "blue" / "text.jpg").write_text("no picture")
    (pictures_folder / "blue" / "empty.png").touch()
    shutil.copy(pictures_folder / "blue" / "blue001.png", pictures_folder / "red" / "again.png")
    pictures = load_pictures(read_folder(pictures_folder), SPEC, SHARES, seed=1)
    assert len(pictures.samples) == 59
    assert len(pictures.images_nhwc_rgb_u8) == len(pictures.targets) == 59
    reasons = {item.sample.path.name: item.reason for item in pictures.left_out}
    assert set(reasons) == {"text.jpg", "empty.png", "again.png", "blue001.png"}
    assert "empty file" in reasons["empty.png"]
    assert reasons["again.png"] == "the same file is also labelled blue"
    write_left_out_csv(tmp_path / "left_out.csv", pictures.left_out)
    lines = (tmp_path / "left_out.csv").read_text().splitlines()
    assert lines[0] == "file,label,reason"
    assert len(lines) == 5


def test_a_class_without_one_readable_picture_is_an_error(pictures_folder: Path) -> None:
    for path in (pictures_folder / "red").iterdir():
        path.write_text(path.name)
    with pytest.raises(
        DatasetError, match=r"class 'red': none of its 30 pictures can be used; the first: .*red000.png"
    ):
        load_pictures(read_folder(pictures_folder), SPEC, SHARES, seed=1)


def test_more_than_memory_holds_is_refused_before_decoding(
    colored_pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sysconf", {"SC_PHYS_PAGES": 100, "SC_PAGE_SIZE": 1024}.__getitem__)
    with pytest.raises(UsageError, match=r"60 pictures of 32 x 32 pixels need .* choose a smaller --image-size"):
        load_pictures(read_folder(colored_pictures), SPEC, SHARES, seed=1)


def test_batches_cover_every_row_once_an_epoch_in_a_new_seeded_order() -> None:
    load_keras(0)
    from train.pipeline import Batches

    inputs = np.arange(20, dtype=np.uint8).reshape(20, 1)
    rows = np.arange(0, 20, 2)

    def epochs(seed: int | None) -> list[list[int]]:
        batches = Batches(inputs, np.arange(20), 4, seed=seed, rows=rows)
        found = []
        for _ in range(2):
            parts = [batches[i] for i in range(len(batches))]
            assert [len(x) for x, _ in parts] == [4, 4, 2]
            assert all(x.dtype == np.float32 and (x[:, 0] == y).all() for x, y in parts)
            found.append([int(y) for _, targets in parts for y in targets])
            batches.on_epoch_end()
        return found

    first, second = epochs(7)
    assert sorted(first) == sorted(second) == list(rows)
    assert first != second
    assert epochs(7) == [first, second]
    assert epochs(8) != [first, second]
    assert epochs(None) == [list(rows), list(rows)]


def test_awkward_real_pictures_are_used_or_named(real_data: Callable[[str], Path], pictures_folder: Path) -> None:
    awkward = [path for path in real_data("awkward_images").rglob("*") if path.is_file()]
    for index, path in enumerate(awkward):
        shutil.copy(path, pictures_folder / "red" / f"awkward{index}-{path.name}")
    dataset = read_folder(pictures_folder)
    pictures = load_pictures(dataset, SPEC, SHARES, seed=1)
    assert len(pictures.samples) + len(pictures.left_out) == len(dataset.samples)
    assert len(pictures.left_out) > 0
    assert len(pictures.samples) > 60
