"""Labelled folders, splits on disk, built-in sets."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_runtime.contract import InputSpec
from edge_runtime.datasets import builtin
from edge_runtime.datasets.decode import decode_all
from edge_runtime.datasets.folder import read_folder
from edge_runtime.datasets.resolve import resolve
from edge_runtime.datasets.samples import Sample, Split, fingerprint, read_split_csv, write_split_csv
from edge_runtime.errors import DatasetError, OutputError


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def test_class_folders_are_listed_in_order_and_other_files_named(tmp_path):
    touch(tmp_path / "dog/b.JPG", tmp_path / "dog/sub/a.png", tmp_path / "cat/z.jpeg", tmp_path / "cat/notes.txt")
    touch(tmp_path / ".hidden/x.jpg", tmp_path / "cat/.DS_Store", tmp_path / "readme.md")
    dataset = read_folder(tmp_path)
    assert dataset.labels == ("cat", "dog")
    assert [sample.path.name for sample in dataset.samples] == ["z.jpeg", "b.JPG", "a.png"]
    assert {sample.split for sample in dataset.samples} == {None}
    assert [path.name for path in dataset.ignored] == ["notes.txt", "readme.md"]


def test_split_folders_are_recognised(tmp_path):
    for split in ("train", "val", "test"):
        touch(tmp_path / split / "cat/a.jpg", tmp_path / split / "dog/b.jpg")
    dataset = read_folder(tmp_path)
    assert dataset.labels == ("cat", "dog")
    assert [len(dataset.of_split(split)) for split in Split] == [2, 2, 2]


def test_a_class_may_be_called_test(tmp_path):
    touch(tmp_path / "test/a.jpg", tmp_path / "control/b.jpg")
    assert read_folder(tmp_path).labels == ("control", "test")


@pytest.mark.parametrize(
    ("files", "folders", "message"),
    [
        (["cat/a.jpg"], [], "at least two folders"),
        ([], [], "at least two folders"),
        (["cat/a.jpg", "dog/b.jpg"], ["bird"], "bird: holds no pictures"),
        (["cat/a.jpg", "dog/notes.txt"], [], "dog: holds no pictures"),
        (["train/cat/a.jpg", "train/dog/a.jpg", "test/cat/a.jpg"], [], "test lacks the class dog"),
    ],
)
def test_what_cannot_be_trained_on_is_said(tmp_path, files, folders, message):
    touch(*(tmp_path / file for file in files))
    for folder in folders:
        (tmp_path / folder).mkdir()
    with pytest.raises(DatasetError, match=message):
        read_folder(tmp_path)


@pytest.mark.parametrize("source", ["no-such-folder", "photos.zip", "https://example.org/photos.zip"])
def test_other_sources_are_one_error(source):
    with pytest.raises(DatasetError, match=source):
        resolve(source)


def test_split_csv_survives_the_round_trip(tmp_path):
    samples = (
        Sample(tmp_path / 'a,"b".jpg', "cat", Split.TRAIN, "1" * 64),
        Sample(tmp_path / "line\nbreak.jpg", "dög", Split.TEST, "2" * 64),
        Sample(tmp_path / "latin\udce9.jpg", "cat", Split.VALIDATION, "3" * 64),
    )
    write_split_csv(tmp_path / "split.csv", samples)
    assert read_split_csv(tmp_path / "split.csv") == samples


@pytest.mark.parametrize(
    "text", ["", "file,label\n", "file,sha256,label,split\na,b,c\n", "file,sha256,label,split\na,b,c,d\n"]
)
def test_a_damaged_split_csv_is_one_error(tmp_path, text):
    (tmp_path / "split.csv").write_text(text)
    with pytest.raises(DatasetError):
        read_split_csv(tmp_path / "split.csv")


def test_the_fingerprint_follows_content_not_names_or_order():
    first = Sample(Path("a"), "cat", Split.TRAIN, "1")
    second = Sample(Path("b"), "dog", Split.TRAIN, "2")
    assert fingerprint([first, second]) == fingerprint([second, Sample(Path("renamed"), "cat", Split.TRAIN, "1")])
    assert fingerprint([first, second]) != fingerprint([first, Sample(Path("b"), "dog", Split.TEST, "2")])
    assert fingerprint([first, second]) != fingerprint([first])


def test_decoding_keeps_the_order_and_names_the_bad(tmp_path):
    paths = [tmp_path / f"{value}.png" for value in (10, 20, 30, 40)]
    for path in paths:
        cv2.imwrite(str(path), np.full((5, 5, 3), int(path.stem), np.uint8))
    paths.insert(2, tmp_path / "text.jpg")
    paths[2].write_text("not a picture")
    counted: list[int] = []
    decoded = decode_all(paths, InputSpec(4, 4), workers=3, progress=counted.append)
    assert decoded.kept == (0, 1, 3, 4)
    assert decoded.images_nhwc_rgb_u8[:, 0, 0, 0].tolist() == [10, 20, 30, 40]
    assert [index for index, _ in decoded.failures] == [2]
    assert sum(counted) == 5


def test_the_built_in_set_is_written_once(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    counted: list[int] = []
    first = builtin.read_builtin("smileys", count=6, progress=counted.append)
    assert first.name == "smileys"
    assert first.labels == ("happy", "sad")
    assert len(first.samples) == 6
    assert sum(counted) == 6
    written = {sample.path: sample.path.stat().st_mtime_ns for sample in first.samples}
    again = builtin.read_builtin("smileys", count=6)
    assert {sample.path: sample.path.stat().st_mtime_ns for sample in again.samples} == written
    shutil.rmtree(tmp_path / "cache")
    anew = builtin.read_builtin("smileys", count=6)
    assert [sample.path.name for sample in anew.samples] == [path.name for path in written]


def test_drawn_pictures_are_new_and_named_by_their_label(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    builtin.draw_pictures(tmp_path / "photos", count=4, seed=0)
    names = ["happy_00000.png", "happy_00002.png", "sad_00001.png", "sad_00003.png"]
    assert sorted(path.name for path in (tmp_path / "photos").iterdir()) == names
    trained_on = {sample.path.read_bytes() for sample in builtin.read_builtin("smileys", count=4).samples}
    assert not trained_on & {path.read_bytes() for path in (tmp_path / "photos").iterdir()}
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        builtin.draw_pictures(tmp_path / "file", count=1, seed=0)
