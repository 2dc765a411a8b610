"""Lists of images as CSV: the split of a run, and an index as a source."""

import os
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.errors import DatasetError
from edge_runtime.workstation.datasets.resolve import resolve
from edge_runtime.workstation.datasets.samples import Sample, Split, read_split_csv, write_split_csv
from support.files import touch


def test_split_csv_survives_the_round_trip(tmp_path):
    samples = (
        Sample(tmp_path / 'a,"b".jpg', "cat", Split.TRAIN, "1" * 64),
        Sample(tmp_path / "line\nbreak.jpg", "dög", Split.TEST, "2" * 64),
        Sample(tmp_path / "latin\udce9.jpg", "cat", Split.VALIDATION, "3" * 64),
    )
    write_split_csv(tmp_path / "split.csv", samples)
    assert read_split_csv(tmp_path / "split.csv") == samples


# What os.fsdecode can give: any text that a file name may hold, and bytes that are not UTF-8.
FILE_NAMES = st.binary(min_size=1, max_size=40).map(lambda name: os.fsdecode(name.translate(None, b"/\0") + b".jpg"))
LABELS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20).map(
    lambda text: unicodedata.normalize("NFC", text)
)


@given(
    rows=st.lists(
        st.tuples(FILE_NAMES, LABELS, st.sampled_from([None, *Split]), st.sampled_from(["", "0123456789abcdef" * 4])),
        max_size=5,
    )
)
def test_any_list_of_images_survives_the_round_trip(tmp_path_factory, rows):
    path = tmp_path_factory.getbasetemp() / "round-trip.csv"
    samples = tuple(Sample(path.parent / file, label, split, sha256) for file, label, split, sha256 in rows)
    write_split_csv(path, samples)
    assert read_split_csv(path, needs_split=False) == samples


HEADER = "file,sha256,label,split\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected the columns file, sha256, label, split"),
        ("file,split\n", "expected the columns"),
        ("file;sha256;label;split\n", "separated by commas"),
        (f"{HEADER}a,,cat,test\na,b,c\n", "line 3: expected file, sha256, label, split, got"),
        (f"{HEADER}a,b,c,train\n", "line 2: expected a SHA-256"),
        (f"{HEADER}a,,c,dev\n", r"line 2: expected a split \(train, validation, test"),
        (f"{HEADER},,c,test\n", "line 2: expected the path"),
        (f"{HEADER}a\0b,,c,test\n", "line 2"),
        (f"{HEADER}a,,,test\n", "line 2: expected a label"),
        (f'{HEADER}"{"a" * 200_000},,c,test\n', r"line \d+: field larger"),
    ],
)
@pytest.mark.parametrize("needs_split", [True, False])
def test_a_damaged_split_csv_is_one_sentence_with_the_line(tmp_path, text, message, needs_split):
    (tmp_path / "split.csv").write_text(text)
    with pytest.raises(DatasetError, match=message) as caught:
        read_split_csv(tmp_path / "split.csv", needs_split=needs_split)
    assert len(str(caught.value)) < 500


def test_only_an_index_may_leave_the_split_open(tmp_path):
    (tmp_path / "split.csv").write_text(f"{HEADER}a.jpg,,cat,\n")
    with pytest.raises(DatasetError, match="line 2: expected a split"):
        read_split_csv(tmp_path / "split.csv")
    assert read_split_csv(tmp_path / "split.csv", needs_split=False) == (Sample(tmp_path / "a.jpg", "cat"),)


def test_a_list_that_is_too_long_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "split.csv"
    path.write_text(HEADER + "a.jpg,,cat,test\n" * 3)
    monkeypatch.setattr("edge_runtime.workstation.datasets.samples.MAX_IMAGES", 2)
    with pytest.raises(DatasetError, match="at most 2 images"):
        read_split_csv(path)
    monkeypatch.setattr("edge_runtime.workstation.datasets.samples.MAX_CSV_BYTES", 10)
    with pytest.raises(DatasetError, match="MiB of CSV"):
        read_split_csv(path)


def test_an_index_takes_images_from_anywhere(tmp_path):
    touch(tmp_path / "lists/near/a.jpg", tmp_path / "far/b.jpg")
    lines = ["near/a.jpg,,cat,", f"{tmp_path}/far/b.jpg,{'0' * 64},dog,", "gone.jpg,,cat,", "near/a.jpg,,cat,"]
    # As spreadsheets save it: a byte order mark, other line ends, an empty line.
    text = "\ufeff" + HEADER + "\n".join(lines) + "\n\n"
    (tmp_path / "lists/pets.csv").write_bytes(text.replace("\n", "\r\n").encode())
    dataset = resolve(str(tmp_path / "lists/pets.csv"))
    assert (dataset.name, dataset.labels) == ("pets", ("cat", "dog"))
    assert dataset.samples == (
        Sample(tmp_path / "lists/gone.jpg", "cat"),
        Sample(tmp_path / "lists/near/a.jpg", "cat"),
        Sample(tmp_path / "far/b.jpg", "dog", None, "0" * 64),
    )


def test_an_index_may_have_file_and_label_alone(tmp_path, colored_images):
    rows = [f"{path},{path.parent.name}" for path in sorted(colored_images.glob("*/*.png"))]
    (tmp_path / "photos.csv").write_text("\n".join(["file,label", *rows]) + "\n")
    samples = resolve(str(tmp_path / "photos.csv")).samples
    assert [(str(sample.path), sample.label) for sample in samples] == [tuple(row.split(",")) for row in rows]
    assert all(sample.split is None and not sample.sha256 for sample in samples)
    (tmp_path / "photos.csv").write_text("file,label\na.png,cat,dog\n")
    with pytest.raises(DatasetError, match="line 2: expected file, sha256, label, split"):
        resolve(str(tmp_path / "photos.csv"))
    with pytest.raises(DatasetError, match="expected the columns file, sha256, label, split, separated"):
        read_split_csv(tmp_path / "photos.csv")


def test_an_index_is_named_after_the_run_that_split_csv_lies_in(tmp_path):
    touch(tmp_path / "colors/a.jpg", tmp_path / "colors/b.jpg")
    (tmp_path / "colors/split.csv").write_text(f"{HEADER}a.jpg,,cat,train\nb.jpg,,dog,train\n")
    assert resolve(str(tmp_path / "colors/split.csv")).name == "colors"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "expected at least two different labels, got none"),
        (["a.jpg,,cat,"], "expected at least two different labels, got only 'cat'"),
        (["gone.jpg,,cat,", "lost.jpg,,dog,"], "none of its 2 images is here"),
        (["a.jpg,,cat,", "folder,,dog,"], "folder', which is not a file"),
        (["a.jpg,,cat,", "pipe,,dog,"], "pipe', which is not a file"),
        (["a.jpg,,cat,", "a.jpg,,Cat,"], "look alike"),
        (["a.jpg,,cat,train", "b.jpg,,dog,train", "a.jpg,,cat,test"], "test lacks the class dog"),
        (["a.jpg,,c\tat,", "b.jpg,,dog,"], "one printable line"),
    ],
)
def test_an_index_that_cannot_be_used_is_one_sentence(tmp_path, rows, message):
    touch(tmp_path / "a.jpg", tmp_path / "b.jpg")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "index.csv").write_text(HEADER + "".join(f"{row}\n" for row in rows))
    with pytest.raises(DatasetError, match=message):
        resolve(str(tmp_path / "index.csv"))
