"""Labelled folders, names of classes, built-in sets."""

import os
import shutil
import unicodedata
from pathlib import Path

import pytest

from edge_runtime.contract import InputSpec, check_class_names
from edge_runtime.errors import DatasetError, OutputError, UsageError
from edge_runtime.workstation.datasets.decode import decode_all
from edge_runtime.workstation.datasets.folder import read_folder
from edge_runtime.workstation.datasets.resolve import draw_images, read_builtin, resolve
from edge_runtime.workstation.datasets.samples import Sample, Split, fingerprint, write_split_csv
from support.files import touch
from support.images import write_images
from support.progress import Bars


def test_class_folders_are_listed_in_order_and_other_files_named(tmp_path):
    touch(tmp_path / "dog/b.JPG", tmp_path / "dog/sub/a.png", tmp_path / "cat/z.jpeg", tmp_path / "cat/notes.txt")
    touch(tmp_path / ".hidden/x.jpg", tmp_path / "cat/.DS_Store", tmp_path / "readme.md")
    dataset = read_folder(tmp_path)
    assert dataset.labels == ("cat", "dog")
    assert [sample.path.name for sample in dataset.samples] == ["z.jpeg", "b.JPG", "a.png"]
    assert {sample.split for sample in dataset.samples} == {None}
    assert [path.name for path in dataset.ignored] == ["notes.txt", "readme.md"]


@pytest.mark.parametrize(
    "names", [("train", "val", "test"), ("training", "valid", "testing"), ("Train", "valid", "testing")]
)
def test_split_folders_are_recognised(tmp_path, names):
    for name in names:
        touch(tmp_path / name / "cat/a.jpg", tmp_path / name / "dog/b.jpg")
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
        (["cat/a.jpg", "dog/b.jpg"], ["bird"], "bird: holds no images"),
        (["cat/a.jpg", "dog/notes.txt"], [], "dog: holds no images"),
        (["train/cat/a.jpg", "train/dog/a.jpg", "test/cat/a.jpg"], [], "test lacks the class dog"),
        (["train/Cat/a.jpg", "train/dog/a.jpg", "test/cat/a.jpg", "test/dog/a.jpg"], [], "'Cat' and 'cat' look alike"),
    ],
)
def test_what_cannot_be_trained_on_is_said(tmp_path, files, folders, message):
    touch(*(tmp_path / file for file in files))
    for folder in folders:
        (tmp_path / folder).mkdir()
    with pytest.raises(DatasetError, match=message):
        read_folder(tmp_path)


def test_hidden_folders_and_what_a_mac_leaves_behind_are_no_classes(tmp_path):
    touch(tmp_path / "cat/a.jpg", tmp_path / "dog/b.jpg", tmp_path / "dog/.thumbs/c.jpg")
    touch(tmp_path / "__MACOSX/cat/._a.jpg", tmp_path / "__MACOSX/cat/x.jpg")
    assert [sample.path.name for sample in read_folder(tmp_path).samples] == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize(
    "label",
    [
        *("a cat, or two", "\"quoted\" 'cat'", "-rf", "--help", "=1+1", "#1", "a;b\\c", "CON", "%s{}"),
        *("ä", "猫", "😀", "👩\u200d🚀", "می\u200cخواهم"),
    ],
)
def test_odd_folder_names_become_labels_and_survive_split_csv(tmp_path, label):
    touch(tmp_path / "set" / label / "a.jpg", tmp_path / "set/other/b.jpg")
    dataset = read_folder(tmp_path / "set")
    assert set(dataset.labels) == {label, "other"}
    write_split_csv(tmp_path / "index.csv", dataset.samples)
    again = resolve(str(tmp_path / "index.csv"))
    assert (again.name, again.labels, again.samples) == ("index", dataset.labels, dataset.samples)


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (["line\nbreak"], "must be one printable line"),
        (["bell\a"], "must be one printable line"),
        (["latin\udce9"], "must be one printable line"),
        (["\u202egnp"], "must be one printable line"),
        (["   "], "must be one printable line"),
        (["cat "], "begins or ends with a space"),
        (["Cat", "cat"], "look alike"),
        ([unicodedata.normalize("NFC", "Bär"), unicodedata.normalize("NFD", "Bär")], "look alike"),
    ],
)
def test_folder_names_that_cannot_be_labels_are_one_sentence(tmp_path, folders, message):
    for folder in [*folders, "dog"]:
        touch(Path(os.fsdecode(os.fsencode(tmp_path / folder))) / "a.jpg")
    with pytest.raises(DatasetError, match=message) as caught:
        read_folder(tmp_path)
    assert str(caught.value).isprintable()


def test_a_class_keeps_its_name_whichever_way_the_file_system_writes_it(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "Bär") for form in ("NFC", "NFD"))
    touch(tmp_path / "train" / decomposed / "a.jpg", tmp_path / "test" / composed / "b.jpg")
    touch(tmp_path / "train/cat/a.jpg", tmp_path / "test/cat/b.jpg")
    dataset = read_folder(tmp_path)
    assert dataset.labels == (composed, "cat")
    assert all(sample.path.is_file() for sample in dataset.samples)


def test_labels_may_not_be_longer_than_a_line():
    with pytest.raises(ValueError, match="at most 256 characters, got 300"):
        check_class_names(["a" * 300, "b"])


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
def test_a_folder_that_cannot_be_read_is_said(tmp_path):
    touch(tmp_path / "cat/a.jpg", tmp_path / "dog/b.jpg", tmp_path / "dog/sub/c.jpg")
    (tmp_path / "dog/sub").chmod(0)
    try:
        with pytest.raises(DatasetError, match="dog: cannot be read"):
            read_folder(tmp_path)
    finally:
        (tmp_path / "dog/sub").chmod(0o700)


@pytest.mark.parametrize("source", ["no-such-folder", "no-such.zip", "no-such.csv"])
def test_a_source_that_is_not_there_says_what_is_expected(source):
    with pytest.raises(DatasetError, match=rf"{source}: no such (file|folder); expected .* \(smileys\)"):
        resolve(source)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("ftp://example.org/a.zip", "expected an address"),
        ("file:///etc/passwd", "expected an address"),
        ("https:///a.zip", "expected an address"),
        ("s3://b/a.zip", "expected an address"),
        ("http://[::1/a.zip", "not a URL"),
        ("https://me:secret@example.org/a.zip", "not supported"),
    ],
)
def test_addresses_that_are_not_of_the_web_or_hold_a_password_are_usage_errors(source, says):
    with pytest.raises(UsageError, match=says) as caught:
        resolve(source)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("source", ["smileys", ".", "list.csv"])
def test_a_checksum_is_for_one_file_only(tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.csv").touch()
    with pytest.raises(UsageError, match="--sha256: expected a zip or a URL"):
        resolve(source, sha256="0" * 64)
    with pytest.raises(UsageError, match="--sha256: expected 64 hex digits"):
        resolve(source, sha256="abc")


def test_the_fingerprint_follows_content_not_names_or_order():
    first = Sample(Path("a"), "cat", Split.TRAIN, "1")
    second = Sample(Path("b"), "dog", Split.TRAIN, "2")
    assert fingerprint([first, second]) == fingerprint([second, Sample(Path("renamed"), "cat", Split.TRAIN, "1")])
    assert fingerprint([first, second]) != fingerprint([first, Sample(Path("b"), "dog", Split.TEST, "2")])
    assert fingerprint([first, second]) != fingerprint([first])


def test_decoding_keeps_the_order_and_names_the_bad(tmp_path):
    paths = write_images(tmp_path, (10, 20, 30, 40))
    paths.insert(2, tmp_path / "text.jpg")
    paths[2].write_text("not an image")
    counted = []
    decoded = decode_all(paths, InputSpec(4, 4), workers=3, progress=counted.append)
    assert decoded.kept == (0, 1, 3, 4)
    assert decoded.images_nhwc_rgb_u8[:, 0, 0, 0].tolist() == [10, 20, 30, 40]
    assert [index for index, _ in decoded.failures] == [2]
    assert sum(counted) == 5


def test_the_built_in_set_is_written_once(cache):
    bars = Bars()
    first = read_builtin("smileys", count=6, progress=bars)
    assert (first.name, first.labels, len(first.samples)) == ("smileys", ("happy", "sad"), 6)
    written = {sample.path: sample.path.stat().st_mtime_ns for sample in first.samples}
    again = read_builtin("smileys", count=6, progress=bars)
    assert bars.totals == bars.counts == {"drawing smileys": 6}
    assert {sample.path: sample.path.stat().st_mtime_ns for sample in again.samples} == written
    shutil.rmtree(cache)
    anew = read_builtin("smileys", count=6)
    assert [sample.path.name for sample in anew.samples] == [path.name for path in written]


def test_drawn_images_are_new_and_named_by_their_label(tmp_path, cache):  # noqa: ARG001
    draw_images(tmp_path / "photos", count=4, seed=0)
    names = ["happy_00000.png", "happy_00002.png", "sad_00001.png", "sad_00003.png"]
    assert sorted(path.name for path in (tmp_path / "photos").iterdir()) == names
    trained_on = {sample.path.read_bytes() for sample in read_builtin("smileys", count=4).samples}
    assert not trained_on & {path.read_bytes() for path in (tmp_path / "photos").iterdir()}
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        draw_images(tmp_path / "file", count=1, seed=0)
