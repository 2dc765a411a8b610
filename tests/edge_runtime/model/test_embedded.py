"""Models of others: their metadata is read, and options complete it."""

import json
import struct
import zipfile

import flatbuffers
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convert.tflite_model import pack_model, unpack_model
from edge_runtime.classifier import Classifier
from edge_runtime.contract import Crop
from edge_runtime.errors import CompatibilityError, UsageError
from edge_runtime.model.bundle import ModelOptions, find_model
from edge_runtime.model.embedded import NO_METADATA, read_metadata
from edge_runtime.tflite.flatbuffer import DamageError
from support.tflite_models import Operator, Tensor, build_model

CROPPED = ModelOptions(crop=Crop.STRETCH)
LABELS = ("red", "green", "blue")
TENSOR_AXIS_LABELS, NORMALIZATION, SCORE_CALIBRATION = 2, 1, 2


pytestmark = pytest.mark.usefixtures("cache")


def table(builder, offsets, **bytes_by_slot):
    """A table of offsets by slot, and of bytes: ``byte2=7`` is the byte 7 in slot 2."""
    numbers = {int(name.removeprefix("byte")): value for name, value in bytes_by_slot.items()}
    builder.StartObject(max([*offsets, *numbers], default=-1) + 1)
    for slot, value in offsets.items():
        builder.PrependUOffsetTRelativeSlot(slot, value, 0)
    for slot, value in numbers.items():
        builder.PrependUint8Slot(slot, value, 0)
    return builder.EndObject()


def vector(builder, values, prepend=flatbuffers.Builder.PrependUOffsetTRelative):
    builder.StartVector(4, len(values), 4)
    for value in reversed(values):
        prepend(builder, value)
    return builder.EndVector()


def metadata(mean=None, std=None, label_files=()):
    """ModelMetadata as MediaPipe's writer makes it, score calibration included; ``label_files`` are name and locale."""
    builder = flatbuffers.Builder(256)
    units = []
    if mean is not None:
        means, deviations = (vector(builder, values, flatbuffers.Builder.PrependFloat32) for values in (mean, std))
        units.append(table(builder, {1: table(builder, {0: means, 1: deviations})}, byte0=NORMALIZATION))
    source = table(builder, {4: vector(builder, units)})
    files = []
    for name, locale in label_files:
        texts = {0: builder.CreateString(name)} | ({3: builder.CreateString(locale)} if locale else {})
        files.append(table(builder, texts, byte2=TENSOR_AXIS_LABELS))
    calibration = table(builder, {1: table(builder, {})}, byte0=SCORE_CALIBRATION)
    target = table(builder, {4: vector(builder, [calibration]), 6: vector(builder, files)})
    graph = table(builder, {2: vector(builder, [source]), 3: vector(builder, [target])})
    builder.Finish(table(builder, {3: vector(builder, [graph])}), b"M001")
    return bytes(builder.Output())


def write_model(path, dtype, said, files=None):
    """The mean of each channel, of a tensor that is quantized with scale 0.5 unless it is float."""
    scale = None if dtype == "float32" else 0.5
    tensors = [
        Tensor("image", (1, 4, 4, 3), dtype, scale),
        Tensor("axes", (2,), "int32", None, struct.pack("<2i", 1, 2)),
        Tensor("answer", (1, 3), dtype, scale),
    ]
    mean = Operator("MEAN", ["image", "axes"], ["answer"], 2, {"kind": "ReducerOptions"})
    path.write_bytes(build_model(tensors, [mean], metadata={"TFLITE_METADATA": said} if said else None))
    if files:
        with zipfile.ZipFile(path, "a") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    return path


LABELLED = {"labels.txt": b"red\r\ngreen\r\nblue\r\n", "fr.txt": b"rouge\nvert\nbleu\n"}
BOTH_LANGUAGES = [("fr.txt", "fr"), ("labels.txt", "")]
IMAGE = np.full((4, 4, 3), (0, 255, 51), np.uint8)


def test_a_float_model_with_normalization_and_labels_needs_only_the_crop(tmp_path, edge_run):
    path = write_model(tmp_path / "f.tflite", "float32", metadata([127.5], [127.5], BOTH_LANGUAGES), LABELLED)
    with pytest.raises(UsageError, match=r"say --crop center\|stretch\|letterbox, as in its training$"):
        Classifier(path)
    with Classifier(path, options=CROPPED) as classifier:
        assert classifier.labels == LABELS
        assert classifier.probabilities(IMAGE) == pytest.approx([-1.0, 1.0, -0.6], abs=1e-6)
    code, out, _ = edge_run("inspect", path, "--crop", "center", "--json")
    assert (code, json.loads(out)["to_be_said"]) == (0, [])
    assert json.loads(out)["read"] == [
        "3 labels from labels.txt inside the file: red; green; blue",
        "pixels stand for -1 to 1, from the normalization in the file's metadata",
        "crop center, from --crop",
    ]


def test_each_channel_may_have_its_own_range(tmp_path):
    said = metadata([0.0, 255.0, 51.0], [255.0, 1.0, 51.0], [("labels.txt", "")])
    path = write_model(tmp_path / "f.tflite", "float32", said, LABELLED)
    with Classifier(path, options=CROPPED) as classifier:
        assert classifier.probabilities(IMAGE) == pytest.approx([0.0, 0.0, 0.0], abs=1e-6)
        white = np.full((4, 4, 3), 255, np.uint8)
        assert classifier.probabilities(white) == pytest.approx([1.0, 0.0, 4.0], abs=1e-6)


def test_int8_input_is_quantized_from_the_range(tmp_path):
    path = write_model(tmp_path / "i.tflite", "int8", None)
    with pytest.raises(UsageError, match=r"--labels FILE, one label a line \(3 lines\); --crop .*; --input-range"):
        Classifier(path)
    said = ModelOptions(LABELS, Crop.STRETCH, (-10.0, 10.0))
    with Classifier(path, options=said) as classifier:
        assert classifier.engine.input.dtype == "int8"
        assert classifier.probabilities(IMAGE).tolist() == [-10.0, 10.0, -6.0]


def test_what_is_said_counts_more_than_what_is_read(tmp_path):
    path = write_model(tmp_path / "f.tflite", "float32", metadata([0.0], [1.0], [("labels.txt", "")]), LABELLED)
    with Classifier(path, options=ModelOptions(("a", "b", "c"), Crop.STRETCH, (0.0, 1.0))) as classifier:
        assert classifier.labels == ("a", "b", "c")
        assert classifier.probabilities(IMAGE) == pytest.approx([0.0, 1.0, 0.2], abs=1e-6)


@pytest.mark.parametrize(
    ("said", "files"),
    [
        (metadata([], []), {}),
        (metadata([1.0, 2.0], [1.0, 2.0]), {}),
        (metadata([1.0], [0.0]), {}),
        (metadata([float("nan")], [1.0]), {}),
        (metadata([0.0], [float("inf")]), {}),
        (metadata([0.0] * 9, [1.0] * 9), {}),
        (metadata(label_files=[("labels.txt", "")]), {}),
        (metadata(label_files=[("labels.txt", "")]), {"labels.txt": b"\xff\xfe\0"}),
        (metadata(label_files=[("labels.txt", "")]), {"labels.txt": b"one\n\n"}),
        (metadata(label_files=[("labels.txt", "")]), {"labels.txt": b"a\n" * (3 << 20)}),
        (metadata(label_files=[("../labels.txt", "")]), {"labels.txt": b"a\nb\nc\n"}),
        (b"M001", {}),
        (b"\xff" * 4 + b"M001" + b"\xff" * 64, {}),
    ],
)
def test_metadata_that_cannot_be_used_leaves_it_to_be_said(tmp_path, said, files):
    path = write_model(tmp_path / "f.tflite", "float32", said, files)
    assert find_model(path).metadata == NO_METADATA
    with pytest.raises(UsageError, match=r"--labels.*--crop.*--input-range"):
        Classifier(path)


@settings(max_examples=300)
@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), max_size=6), st.integers(0, 400))
def test_damaged_metadata_is_read_or_refused(tmp_path, changes, cut):
    data = bytearray(metadata([127.5], [127.5], BOTH_LANGUAGES))
    for position, value in changes:
        data[position % len(data)] = value
    try:
        found = read_metadata(tmp_path / "none.tflite", bytes(data[: len(data) - cut]))
    except DamageError:
        return
    assert found.labels is None
    assert found.input_ranges is None or len(found.input_ranges) in (1, 3)


def test_labels_that_are_not_the_models_are_refused(tmp_path):
    path = write_model(tmp_path / "f.tflite", "uint8", metadata(label_files=[("l.txt", "")]), {"l.txt": b"a\nb\n"})
    with pytest.raises(CompatibilityError, match="2 labels need 2 outputs, but the model has 3"):
        Classifier(path, options=CROPPED)


@pytest.mark.parametrize(
    ("shape", "dtype", "words"),
    [
        ((1, 4, 4), "float32", r"expected an input \[1, H, W, 3\], got \[1, 4, 4\]"),
        ((1, 4, 4, 1), "float32", r"expected an input \[1, H, W, 3\]"),
        ((1, 5000, 4, 3), "float32", "must be 1 to 4096 pixels, got 5000"),
        ((1, 4, 4, 3), "int32", "expected tensors of uint8, int8"),
    ],
)
def test_what_is_no_image_is_refused(tmp_path, shape, dtype, words):
    path = tmp_path / "m.tflite"
    tensors = [
        Tensor("image", shape, dtype, None),
        Tensor("axes", (2,), "int32", None, struct.pack("<2i", 1, 2)),
        Tensor("answer", (shape[0], *shape[3:]), dtype, None),
    ]
    path.write_bytes(build_model(tensors, [Operator("MEAN", ["image", "axes"], ["answer"], 2)]))
    with pytest.raises(CompatibilityError, match=words):
        Classifier(path, options=ModelOptions(LABELS, Crop.STRETCH, (0.0, 1.0)))


def test_two_inputs_are_refused_before_a_runtime_sees_them(tmp_path):
    path = write_model(tmp_path / "m.tflite", "uint8", None)
    model = unpack_model(path.read_bytes())
    model.subgraphs[0].outputs = [2, 2]
    path.write_bytes(pack_model(model))
    with pytest.raises(CompatibilityError, match="expected one input and one output, got 1 and 2"):
        Classifier(path, options=CROPPED)


@pytest.mark.parametrize("name", ["mobilenet_v1_0.25_128_quant.tflite", "tf2_mobilenet_v2_1.0_224_ptq.tflite"])
def test_corals_models_need_only_the_crop(name, real_data):
    with pytest.raises(UsageError, match=r"carries no manifest; say --crop [^;]*$"):
        Classifier(real_data("coral") / name)
    with Classifier(real_data("coral") / name, options=ModelOptions(crop=Crop.CENTER)) as classifier:
        assert len(classifier.labels) == 1001
        assert classifier.labels[0] == "background"
        assert classifier.classify(real_data("coral/parrot.jpg"))[0].label == "macaw"
    with pytest.raises(CompatibilityError, match="2 labels need 2 outputs, but the model has 1001"):
        Classifier(real_data("coral") / name, options=ModelOptions(labels=("a", "b"), crop=Crop.CENTER))


@pytest.mark.parametrize("name", ["pretrainedResnet.tflite", "pretrainedResnet_quant.tflite"])
def test_float_and_int8_models_from_elsewhere_are_as_right_as_published(name, real_data):
    folder = real_data("mlperf_tiny_ic")
    (table_file,) = folder.rglob("y_labels.csv")
    rows = [line.replace(" ", "").split(",") for line in table_file.read_text().splitlines()]
    foreign = ModelOptions(tuple(f"class{number}" for number in range(10)), Crop.STRETCH, (0.0, 255.0))
    with Classifier(folder / name, options=foreign) as classifier:
        answers = [classifier.classify(table_file.with_name(row[0]))[0].label for row in rows]
    right = [answer == f"class{row[2]}" for answer, row in zip(answers, rows, strict=True)]
    # 85.5 % and 85.0 % of these 200 images.
    assert np.mean(right) == pytest.approx(0.85, abs=0.01)
