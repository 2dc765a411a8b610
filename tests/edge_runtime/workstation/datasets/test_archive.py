"""Zips as a source: ordinary ones unpacked once, hostile and damaged ones refused with nothing left behind."""

import hashlib
import json
import stat
import struct
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.errors import DatasetError, OutputError, UsageError
from edge_runtime.workstation.datasets.archive import Limits, unpack
from edge_runtime.workstation.datasets.resolve import resolve
from edge_runtime.workstation.datasets.samples import Split
from support.programs import run_code
from support.progress import Bars

CLASSES = ("cat/a.jpg", "dog/b.jpg")
pytestmark = pytest.mark.usefixtures("cache")


def make_zip(path, entries, compression=zipfile.ZIP_DEFLATED):
    """Write a zip; an entry is a name, a pair of name and content, or a pair of ZipInfo and content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", compression) as archive:
        for entry in entries:
            name, content = (entry, f"image {entry}") if isinstance(entry, str) else entry
            archive.writestr(name, content)
    return path


def left_behind(cache):
    return list((cache / "archives").glob("*"))


def refused(path, cache, message, **options):
    """The sentence with which a zip is refused; nothing may be left in the cache."""
    with pytest.raises(DatasetError, match=message) as caught:
        unpack(path, str(path), **options)
    assert left_behind(cache) == []
    text = str(caught.value)
    assert text.startswith(str(path))
    assert text.isprintable()
    return text


def test_a_zip_of_class_folders_is_a_set(tmp_path):
    path = make_zip(tmp_path / "pets.zip", [*CLASSES, ("dog/notes.txt", "x"), ("readme.md", "x")])
    bars = Bars()
    dataset = resolve(str(path), progress=bars)
    assert (dataset.name, dataset.labels) == ("pets", ("cat", "dog"))
    assert [sample.path.read_text() for sample in dataset.samples] == ["image cat/a.jpg", "image dog/b.jpg"]
    assert dataset.ignored == (path / "dog/notes.txt", path / "readme.md")
    assert list(bars.totals) == ["checking the archive", "extracting"]
    assert bars.counts == bars.totals


def test_a_zip_is_unpacked_once_and_again_when_its_folder_was_tidied_up(tmp_path, cache):
    path = make_zip(tmp_path / "pets.zip", [*CLASSES, ("readme.md", "x")])
    first = resolve(str(path))
    times = {sample.path: sample.path.stat().st_mtime_ns for sample in first.samples}
    assert resolve(str(path)) == first
    assert {path: path.stat().st_mtime_ns for path in times} == times
    first.samples[0].path.unlink()
    assert resolve(str(path)) == first
    assert first.samples[0].path.is_file()
    (folder,) = left_behind(cache)
    assert folder.name == hashlib.sha256(path.read_bytes()).hexdigest()
    (folder / "COMPLETE").unlink()
    assert resolve(str(path)) == first
    (folder / "COMPLETE").write_text(json.dumps({"layout": 0, "pictures": 2, "ignored": []}))
    assert resolve(str(path)) == first


@pytest.mark.parametrize(
    ("names", "labels", "splits"),
    [
        (["PetImages/Cat/0.jpg", "PetImages/Dog/0.jpg", "readme[1].txt", "docs/a.txt"], ("Cat", "Dog"), {None}),
        (
            [f"filtered/{part}/{label}/1.jpg" for part in ("train", "validation") for label in ("cats", "dogs")]
            + ["filtered/vectorize.py"],
            ("cats", "dogs"),
            {Split.TRAIN, Split.VALIDATION},
        ),
        (["a/b/c/cat/1.jpg", "a/b/c/dog/1.jpg", "a/b/preview.png"], ("cat", "dog"), {None}),
        (["train/cat/1.jpg", "train/dog/1.jpg"], ("cat", "dog"), {Split.TRAIN}),
        (["./cat/1.jpg", "dog//1.jpg"], ("cat", "dog"), {None}),
        (["cat/1.jpg", "dog/1.jpg", "__MACOSX/cat/._1.jpg", "__MACOSX/x.jpg", ".git/y.jpg"], ("cat", "dog"), {None}),
        (["COMPLETE/1.jpg", "pictures/1.jpg"], ("COMPLETE", "pictures"), {None}),
    ],
)
def test_folders_that_only_wrap_the_set_are_gone_through(tmp_path, names, labels, splits):
    dataset = resolve(str(make_zip(tmp_path / "set.zip", names)))
    assert dataset.labels == labels
    assert {sample.split for sample in dataset.samples} == splits


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["one/a.jpg", "one/b.jpg"], r"set\.zip: expected at least two folders of images.* only 'one'"),
        (["a.jpg", "b.jpg"], r"set\.zip: expected at least two folders of images.* none"),
        (["w/cat/a.jpg", "w/dog/a.jpg", "w/bird/a.txt"], r"set\.zip/w/bird: holds no images"),
        (["w/cat/a.jpg", "w/dog/a.jpg", "w/bird/"], r"set\.zip/w/bird: holds no images"),
        (["cat\n/a.jpg", "dog/a.jpg"], "must be one printable line"),
    ],
)
def test_a_zip_says_the_same_as_the_folder_in_it(tmp_path, names, message):
    with pytest.raises(DatasetError, match=message) as caught:
        resolve(str(make_zip(tmp_path / "set.zip", names)))
    assert "cache" not in str(caught.value)


@pytest.mark.parametrize("label", ["Bär", "猫", "a cat, or two", "😀", "-x"])
def test_odd_class_names_come_out_of_a_zip(tmp_path, label):
    dataset = resolve(str(make_zip(tmp_path / "set.zip", [f"{label}/a.jpg", "other/b.jpg"])))
    assert set(dataset.labels) == {label, "other"}


@pytest.mark.parametrize(
    ("stored", "label"),
    [("Bär".encode("cp437"), "Bär"), ("Bär".encode(), "Bär"), (b"Ba\xcc\x88r", "Bär")],
    ids=["old DOS", "UTF-8 that does not say so", "the same, decomposed, as on a Mac"],
)
def test_names_in_other_encodings_are_read(tmp_path, stored, label):
    path = make_zip(tmp_path / "set.zip", ["X" * len(stored) + "/a.jpg", "other/b.jpg"])
    path.write_bytes(path.read_bytes().replace(b"X" * len(stored), stored))
    dataset = resolve(str(path))
    assert dataset.labels == (label, "other")
    assert dataset.samples[0].path.is_file()


@pytest.mark.parametrize(
    "name",
    [
        *("../evil.jpg", "cat/../../evil.jpg", "/etc/evil.jpg", "..\\evil.jpg", "cat\\a.jpg", "C:/evil.jpg"),
        *("c:evil.jpg", "//host/share/evil.jpg", "cat/..", "__MACOSX/../../evil.jpg", ".hidden/../../evil.txt"),
    ],
)
def test_paths_that_lead_out_are_refused(tmp_path, cache, name):
    refused(make_zip(tmp_path / "set.zip", [*CLASSES, name]), cache, "could lead out of the folder")
    assert not list(tmp_path.rglob("evil*"))


def special(kind):
    entry = zipfile.ZipInfo("cat/c.jpg")
    entry.external_attr = (kind | 0o777) << 16
    return entry, "/etc/passwd"


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (["cat/" + "x" * 300 + ".jpg"], "name that is too long"),
        (["/".join(["deep"] * 300) + "/a.jpg"], "name that is too long"),
        ([special(stat.S_IFLNK)], "a link"),
        ([special(stat.S_IFIFO)], "a special file"),
        ([special(stat.S_IFCHR)], "a special file"),
        (["cat/a.jpg"], "holds 'cat/a.jpg' twice"),
        (["cat/./a.jpg"], "holds 'cat/a.jpg' twice"),
        (["Cat/c.jpg"], "'cat' and 'Cat', which differ in case"),
        (["cat/A.jpg"], "'cat/a.jpg' and 'cat/A.jpg', which differ in case"),
        (["Bär/a.jpg", "Ba\u0308r/a.jpg"], "differ in case or encoding"),
        (["cat/a.jpg/b.jpg"], "'cat/a.jpg' both as a file and as a folder"),
        (["dog/b.jpg/"], "'dog/b.jpg' both as a file and as a folder"),
        ([("cat/bomb.jpg", b"\0" * (20 << 20))], "'cat/bomb.jpg' unpacks to more than 200 times its packed size"),
        ([(f"cat/{i}.jpg", b"\0" * (1 << 20)) for i in range(20)], r"set\.zip unpacks to more than 200 times"),
    ],
)
def test_an_entry_that_is_no_ordinary_image_refuses_the_zip(tmp_path, cache, entries, message):
    refused(make_zip(tmp_path / "set.zip", [*CLASSES, *entries]), cache, message)


def test_a_zip_without_images_is_refused(tmp_path, cache):
    inner = make_zip(tmp_path / "inner.zip", CLASSES).read_bytes()
    path = make_zip(tmp_path / "set.zip", [("inner.zip", inner), ("readme", "x")])
    refused(path, cache, "holds no images, only 2 other files")


def test_other_files_and_damaged_ones_are_told_apart(tmp_path, cache):
    path = tmp_path / "set.zip"
    path.write_text("<html>not found</html>")
    refused(path, cache, "expected a zip of class folders, got another kind of file")
    path.write_bytes(b"")
    refused(path, cache, "another kind of file")
    whole = make_zip(path, CLASSES).read_bytes()
    path.write_bytes(whole[:-30])
    refused(path, cache, "cut off or damaged")
    with pytest.raises(DatasetError, match=r"nowhere\.zip: cannot be read \(No such file"):
        unpack(tmp_path / "nowhere.zip", "nowhere.zip")


@pytest.mark.parametrize(
    ("entry", "written", "changed", "message"),
    [
        ("cat/x.jpg#.txt", b"x.jpg#", b"x.jpg\0", "could lead out of the folder"),
        (("dog/c.jpg", "in c"), b"in c", b"In c", r"cut off or damaged \(Bad CRC-32 for file 'dog/c.jpg'\)"),
    ],
    ids=["name with a hidden end", "wrong check sum inside"],
)
def test_a_zip_with_changed_bytes_is_refused(tmp_path, cache, entry, written, changed, message):
    path = make_zip(tmp_path / "set.zip", [*CLASSES, entry], zipfile.ZIP_STORED)
    path.write_bytes(path.read_bytes().replace(written, changed))
    refused(path, cache, message)


def test_an_encrypted_zip_is_refused(tmp_path, cache):
    path = make_zip(tmp_path / "set.zip", CLASSES)
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(data)
    refused(path, cache, "'cat/a.jpg' is encrypted; unpack it with its password")


def test_unusual_packing_is_refused(tmp_path, cache):
    # bzip2 and LZMA unpack a whole block at once, so that memory cannot be bounded.
    path = make_zip(tmp_path / "set.zip", [("cat/a.jpg", b"0" * 1000), "dog/b.jpg"], zipfile.ZIP_BZIP2)
    refused(path, cache, "packed by method 12; expected an ordinary zip")


def test_sizes_and_counts_are_limited(tmp_path, cache):
    path = make_zip(tmp_path / "set.zip", [(name, b"0" * 40_000) for name in CLASSES])
    refused(path, cache, "expected at most 1 entries, got more", limits=Limits(entries=1))
    refused(path, cache, "unpacks to 0 MiB; expected images of at most 0 MiB", limits=Limits(file_bytes=39_999))
    refused(path, cache, "unpacks to 0.0 GiB; expected at most", limits=Limits(total_bytes=79_999))
    refused(path, cache, "expected a table of contents of at most", limits=Limits(directory_bytes=100))
    assert unpack(path, "set", limits=Limits(entries=2, file_bytes=40_000, total_bytes=80_000)).folder.is_dir()


def test_a_zip_of_other_files_is_refused(tmp_path, cache):
    path = make_zip(tmp_path / "set.zip", [*CLASSES, *(f"notes/{number}.txt" for number in range(7))])
    message = "holds 2 images and 7 other files; expected a zip of class folders of images"
    refused(path, cache, message, limits=Limits(others=6))
    assert len(unpack(path, "set", limits=Limits(others=7)).ignored) == 7


def test_entries_that_share_their_bytes_are_refused(tmp_path, cache):
    """David Fifield's bomb: every entry of the table of contents points to the same packed data."""
    path = make_zip(tmp_path / "set.zip", [("a/0.jpg", b"\0" * (1 << 20))])
    data = path.read_bytes()
    start = data.index(b"PK\1\2")
    entry, end = data[start:-22], data[-22:]
    table = b"".join(entry.replace(b"a/0.jpg", b"%c/%d.jpg" % (97 + i % 2, i // 2)) for i in range(20))
    end = end[:8] + struct.pack("<HHII", 20, 20, len(table), start) + end[20:]
    path.write_bytes(data[:start] + table + end)
    refused(path, cache, "unpacks to more than 200 times")
    refused(path, cache, "cut off or damaged|unpacks to", limits=Limits(ratio=10**9))


@pytest.mark.parametrize("declared", [1 << 10, 100])
def test_a_false_size_is_not_believed(tmp_path, cache, declared):
    path = make_zip(tmp_path / "set.zip", [*CLASSES, ("cat/c.jpg", b"0123456789" * 40)])
    data = bytearray(path.read_bytes())
    data[(at := data.rindex(b"PK\1\2") + 24) : at + 4] = struct.pack("<I", declared)
    path.write_bytes(data)
    refused(path, cache, "cut off or damaged|than it declares")


@given(data=st.data())
def test_a_damaged_zip_is_a_set_or_one_sentence(tmp_path, data):
    path = make_zip(tmp_path / "set.zip", [*CLASSES, "train/x/c.jpg", ("cat/d.png", b"1" * 300)])
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(len(content) // 2, len(content)))])
    sentence = "set.zip is still whole"
    try:
        samples = resolve(str(path)).samples
    except DatasetError as error:
        sentence, samples = str(error), ()
    assert "set.zip" in sentence
    assert all(sample.path.is_file() for sample in samples)


def test_the_checksum_of_a_zip_is_checked(tmp_path, cache):
    path = make_zip(tmp_path / "pets.zip", CLASSES)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(DatasetError, match=rf"expected the SHA-256 {'0' * 64}, got {digest}"):
        resolve(str(path), sha256="0" * 64)
    assert left_behind(cache) == []
    assert path.is_file()
    assert len(resolve(str(path), sha256=digest.upper()).samples) == 2
    with pytest.raises(UsageError):
        resolve(str(path), sha256=digest[:-1])


def test_too_little_room_is_said_before_anything_is_written(tmp_path, cache):
    path = make_zip(tmp_path / "pets.zip", CLASSES)
    with pytest.raises(OutputError, match=r"needs 0 MiB, and 0 MiB can be used; make room or set EDGEKIT_CACHE"):
        unpack(path, "pets.zip", limits=Limits(disk_margin_bytes=1 << 60))
    assert left_behind(cache) == []


def test_a_disk_that_fills_up_is_one_sentence_and_leaves_nothing(tmp_path, cache):
    path = make_zip(tmp_path / "pets.zip", [*CLASSES, ("dog/large.jpg", b"0123456789" * 1000)])
    code = (
        "import resource, sys; from edge_runtime.workstation.datasets.resolve import resolve;"
        "from edge_runtime.errors import OutputError;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "try: resolve(sys.argv[1])\n"
        "except OutputError as error: print(error)"
    )
    done = run_code(code, path)
    assert done.stderr == ""
    assert "pets.zip cannot be written (File too large); make room or set EDGEKIT_CACHE" in done.stdout
    assert left_behind(cache) == []


def test_a_cache_that_cannot_be_written_is_one_sentence(tmp_path, cache):
    cache.write_text("in the way")
    with pytest.raises(OutputError, match="cannot be written"):
        resolve(str(make_zip(tmp_path / "pets.zip", CLASSES)))


def test_real_photos_are_the_same_zipped_and_as_a_folder(tmp_path, real_data):
    photos = real_data("cats_and_dogs")
    folder = resolve(str(photos))
    with zipfile.ZipFile(tmp_path / "cats.zip", "w") as archive:
        for sample in folder.samples:
            archive.write(sample.path, Path("cats_and_dogs_filtered", sample.path.relative_to(photos)))
    zipped = resolve(str(tmp_path / "cats.zip"))
    assert zipped.labels == folder.labels
    for packed, plain in zip(zipped.samples, folder.samples, strict=True):
        assert (packed.label, packed.split, packed.path.name) == (plain.label, plain.split, plain.path.name)
        assert packed.path.read_bytes() == plain.path.read_bytes()
