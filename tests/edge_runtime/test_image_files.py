"""Raw images (``.npy``, ``.bin``) and MLPerf Tiny's list of labels."""

import contextlib
import io
import json
import re
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.classifier import Classifier
from edge_runtime.contract import Crop, InputSpec
from edge_runtime.errors import DatasetError, ImageError
from edge_runtime.image_files import NPY_MAGIC, parse_npy
from edge_runtime.preprocess import MAX_PIXELS, load_image, load_prepared, prepare
from edge_runtime.results import Prediction
from edge_runtime.workstation.datasets.decode import decode_all
from edge_runtime.workstation.datasets.resolve import resolve
from edge_runtime.workstation.datasets.samples import map_index_labels
from support.images import plain_image


def npy(array, version=None):
    """The bytes of a .npy file, as NumPy writes them."""
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version=version, allow_pickle=True)
    return file.getvalue()


def with_header(text, content=b""):
    """A .npy file of format 1 with any header."""
    header = text.encode()
    return NPY_MAGIC + b"\x01\x00" + len(header).to_bytes(2, "little") + header + content


IMAGE = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)


@given(
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    channels=st.sampled_from([0, 1, 3]),
    fortran=st.booleans(),
    version=st.sampled_from([(1, 0), (2, 0), (3, 0)]),
    seed=st.integers(0, 99),
)
def test_what_numpy_writes_is_read(height, width, channels, fortran, version, seed):
    shape = (height, width, channels) if channels else (height, width)
    image = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    found = parse_npy(npy(np.asfortranarray(image) if fortran else image, version), MAX_PIXELS)
    assert (found.flags.c_contiguous, found.flags.writeable) == (True, True)
    expected = image if channels else image[:, :, np.newaxis]
    np.testing.assert_array_equal(found, np.broadcast_to(expected, (height, width, 3)))


@given(data=st.binary(max_size=300))
def test_any_bytes_are_a_image_or_an_image_error(data):
    for whole in (data, NPY_MAGIC + data, npy(IMAGE)[: len(data)], with_header(data.decode("latin-1"))):
        with pytest.raises(ImageError):
            parse_npy(whole, MAX_PIXELS)


@given(
    descr=st.sampled_from(["|u1", "<f4", "|O", "|V8", 3, ["a"]]),
    order=st.sampled_from([True, False, 0, "no"]),
    shape=st.one_of(st.lists(st.integers(-3, 2**40), max_size=4).map(tuple), st.just("(1, 1)"), st.just((True, 1))),
    size=st.integers(0, 40),
)
def test_a_header_is_never_believed(descr, order, shape, size):
    data = with_header(repr({"descr": descr, "fortran_order": order, "shape": shape}), bytes(size))
    fits = (
        descr == "|u1"
        and isinstance(order, bool)
        and isinstance(shape, tuple)
        and all(type(side) is int for side in shape)
        and len(shape) in (2, 3)
        and min(shape) > 0
        and (len(shape) == 2 or shape[2] in (1, 3))
        and int(np.prod(shape, dtype=object)) == size
    )
    with contextlib.nullcontext() if fits else pytest.raises(ImageError):
        assert parse_npy(data, MAX_PIXELS).shape == (*shape[:2], 3)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (npy(IMAGE.astype(np.float32)), "expected an array of uint8, got '<f4'"),
        (npy(np.array([{}], object)), "expected an array of uint8, got '|O'"),
        (npy(np.zeros((2, 2, 4), np.uint8)), r"got \[2, 2, 4\]"),
        (npy(np.zeros((0, 2, 3), np.uint8)), r"got \[0, 2, 3\]"),
        (npy(IMAGE)[:-1], "expected 105 bytes of pixels after the header, got 104"),
        (npy(IMAGE) + b"x", "got 106"),
        (NPY_MAGIC + b"\x04\x00" + b" " * 100, "format 1, 2 or 3"),
        (NPY_MAGIC + b"\x02\x00\xff\xff\xff\x7f" + b" " * 100, "at most 1024 bytes"),
        (b"GIF8 of sorts", "format 1, 2 or 3"),
        (with_header("__import__('os')"), "cannot be read"),
        (with_header("(" * 900), "cannot be read"),
        (with_header("{'shape': (1, 1)}"), "descr, fortran_order and shape"),
        (with_header("{'descr': '|u1', 'fortran_order': False, 'shape': (60000, 60000, 3)}"), "34 million pixels"),
    ],
)
def test_what_is_wrong_with_an_array_is_said(tmp_path, data, message):
    (tmp_path / "x.npy").write_bytes(data)
    with pytest.raises(ImageError, match=message if data.startswith(NPY_MAGIC) else "is not an image"):
        load_image(tmp_path / "x.npy")
    tracemalloc.start()
    with pytest.raises(ImageError, match=message):
        parse_npy(data, MAX_PIXELS)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_an_array_is_cropped_and_resized_like_any_image(tmp_path):
    (tmp_path / "x.npy").write_bytes(npy(IMAGE))
    for crop in Crop:
        spec = InputSpec(4, 4, crop)
        np.testing.assert_array_equal(load_prepared(tmp_path / "x.npy", spec), prepare(IMAGE, spec))


def test_raw_bytes_are_the_models_input_as_it_is(tmp_path):
    path = tmp_path / "x.BIN"
    path.write_bytes(IMAGE.tobytes())
    np.testing.assert_array_equal(load_prepared(path, InputSpec(5, 7, Crop.CENTER, 0.5)), IMAGE)
    with pytest.raises(ImageError, match="expected 4x7x3 = 84 bytes of raw RGB pixels"):
        load_prepared(path, InputSpec(4, 7))


def test_class_folders_may_hold_raw_images(tmp_path):
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for name, data in (("a.npy", npy(IMAGE)), ("b.bin", bytes(27)), ("c.bin", bytes(28))):
            (tmp_path / label / name).write_bytes(data)
    samples = resolve(str(tmp_path)).samples
    decoded = decode_all([sample.path for sample in samples], InputSpec(3, 3))
    assert decoded.kept == (0, 1, 3, 4)
    assert ["27 bytes" in reason for _, reason in decoded.failures] == [True, True]


@pytest.mark.usefixtures("cache")
def test_a_zip_may_hold_raw_images(tmp_path):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr("readme.md", "x")
        for label in ("cat", "dog"):
            archive.writestr(f"wrapped/{label}/a.npy", npy(IMAGE))
            archive.writestr(f"wrapped/{label}/b.BIN", bytes(27))
            archive.writestr(f"wrapped/{label}/notes.txt", "x")
    dataset = resolve(str(tmp_path / "set.zip"))
    names = [(sample.label, sample.path.name) for sample in dataset.samples]
    assert names == [("cat", "a.npy"), ("cat", "b.BIN"), ("dog", "a.npy"), ("dog", "b.BIN")]
    assert [path.name for path in dataset.ignored] == ["readme.md", "notes.txt", "notes.txt"]
    decoded = decode_all([sample.path for sample in dataset.samples], InputSpec(3, 3))
    assert decoded.kept == (0, 1, 2, 3)


def test_a_folder_of_arrays_is_classified(tmp_path, tiny_bundle, edge_run):
    folder = tmp_path / "arrays"
    (folder / "deep").mkdir(parents=True)
    for name, color in (("deep/blue.npy", (0, 0, 200)), ("green.NPY", (0, 200, 0)), ("red.npy", (200, 0, 0))):
        (folder / name).write_bytes(npy(plain_image(color)))
    (folder / "scores.npy").write_bytes(npy(np.zeros(7, np.float32)))
    (folder / "notes.txt").write_text("x")
    code, out, _ = edge_run("classify", tiny_bundle, folder, "--format", "jsonl")
    records = {Path(record["source"]).name: record for record in map(json.loads, out.splitlines())}
    labels = {"blue.npy": "blue", "green.NPY": "green", "red.npy": "red", "scores.npy": None}
    assert (code, {name: record.get("label") for name, record in records.items()}) == (1, labels)
    assert list(records) == list(labels)
    assert records["scores.npy"]["error"]["message"] == "expected an array of uint8, got '<f4'"


def test_raw_bytes_of_the_models_size_are_classified_as_they_are(tmp_path, tiny_bundle, edge_run):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "blue.BIN").write_bytes(plain_image((0, 0, 200), 8, 8).tobytes())
    (tmp_path / "in" / "firmware.bin").write_bytes(bytes(191))
    code, out, _ = edge_run("classify", tiny_bundle, tmp_path / "in", "--format", "jsonl")
    found, refused = map(json.loads, out.splitlines())
    assert (code, found["label"], found["score"], found["latency_ms"]["preprocess"]) == (1, "blue", 200 / 256, 0)
    assert re.search("expected 8x8x3 = 192 bytes of raw RGB pixels.*got 191", refused["error"]["message"])
    with Classifier(tiny_bundle) as classifier:
        assert classifier.classify(tmp_path / "in" / "blue.BIN")[0] == Prediction("blue", 200 / 256)


@pytest.fixture
def labelled(tmp_path):
    """A folder as MLPerf Tiny lays one out."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    for name in ("a", "b", "c"):
        (folder / f"{name}.bin").write_bytes(bytes(27))
    (folder / "y_labels.csv").write_text("b.bin,10,7\na.bin,10,3\nc.bin,10,7\n")
    return folder


def test_mlperfs_list_of_labels_is_read_from_folder_or_file(labelled):
    for source in (labelled, labelled / "y_labels.csv"):
        dataset = resolve(str(source))
        assert (dataset.name, dataset.labels) == ("tiny", ("3", "7"))
        assert [(s.path.name, s.label) for s in dataset.samples] == [("a.bin", "3"), ("b.bin", "7"), ("c.bin", "7")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.bin,10,7\nb.bin,10,10\n", "line 2: expected a class index below 10, got 10"),
        ("a.bin,10,7\nb.bin,10\n", "line 2: expected file,number of classes,class index"),
        ("a.bin,10,7\nb.bin,10,-1\n", "line 2: expected file"),
        ("a.bin,10,7\n", "at least two different labels, got only '7'"),
        ("x.bin,10,7\ny.bin,10,8\n", "none of its 2 images is here"),
        ("", "expected the columns"),
    ],
)
def test_a_bad_list_is_one_sentence(labelled, text, message):
    (labelled / "y_labels.csv").write_text(text)
    with pytest.raises(DatasetError, match=message):
        resolve(str(labelled))


def test_indices_become_the_models_labels(labelled):
    samples = resolve(str(labelled)).samples
    names = tuple("abcdefghij")
    assert [sample.label for sample in map_index_labels(samples, names)] == ["d", "h", "h"]
    # An index that the model does not have, or a model that knows the labels by name: nothing is mapped.
    assert map_index_labels(samples, names[:7]) == samples
    assert map_index_labels(samples, ("7", "3", "x", "y", "z", "u", "v", "w")) == samples
    assert map_index_labels((), names) == ()
