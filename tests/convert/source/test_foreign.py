"""Models from elsewhere, looked at without TensorFlow: what is accepted, what is asked for, and what is refused."""

import io
import json
import re
import zipfile
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convert.options import ForeignOptions, InputRange, Loader, ModelColor, ModelOutput, model_name, read_labels
from convert.source.model_source import read_model
from edge_runtime.contract import Crop, Head
from edge_runtime.errors import CompatibilityError, ModelError, UsageError
from support.programs import run_code


def layer(class_name, name, feeder=None, **config):
    inbound = [[[feeder, 0, 0, {}]]] if feeder else []
    return {"class_name": class_name, "name": name, "config": {"name": name, **config}, "inbound_nodes": inbound}


def functional(*layers, inputs=None, outputs=None):
    first, last = inputs or [[layers[0]["name"], 0, 0]], outputs or [[layers[-1]["name"], 0, 0]]
    return layer("Functional", "model", layers=list(layers), input_layers=first, output_layers=last)


def classifier(*middle, shape=(None, 8, 8, 3), units=3):
    image = layer("InputLayer", "image", batch_input_shape=list(shape))
    names = ["image", *(item["name"] for item in middle)]
    return functional(image, *middle, layer("Dense", "dense", names[-1], units=units))


def weights(fill=lambda _file: None):
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file["w"] = np.zeros(3)
        fill(file)
    return content.getvalue()


def write_archive(path, config, *, version="3.8.0", more=(), hdf5=None):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", config if isinstance(config, (str, bytes)) else json.dumps(config))
        archive.writestr("metadata.json", json.dumps({"keras_version": version}))
        archive.writestr("model.weights.h5", weights() if hdf5 is None else hdf5)
        for name in more:
            archive.writestr(name, b"x")
    return path


def write_hdf5(path, config, *, version="2.4.0", fill=lambda _file: None):
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(config)
        if version:
            file.attrs["keras_version"] = version
        file.create_group("model_weights")["kernel"] = np.zeros(3)
        fill(file)
    return path


def test_the_contract_is_completed_by_options(tmp_path, said):
    path = write_hdf5(tmp_path / "my model.h5", classifier(layer("Flatten", "flatten", "image")))
    source = read_model(path, said)
    assert (source.path, source.loader) == (path, Loader.TF_KERAS)
    assert source.manifest.model_name == "my-model"
    assert source.manifest.labels == ("cat", "dog", "fox")
    assert (source.manifest.input.height, source.manifest.input.width, source.manifest.input.crop) == (8, 8, "stretch")
    assert (source.manifest.output.head, source.manifest.output.decision_threshold) == (Head.SOFTMAX, 0.0)
    assert source.manifest.training is None
    assert (source.input_range, source.color, source.output) == ("-1,1", "rgb", "probabilities")
    for part in ("my model.h5", "Keras 2.4.0", "tf-keras", "labels.txt", "-1,1", "stretch", "rgb (not given"):
        assert part in source.origin
    other = replace(said, name="pets", color=ModelColor.BGR, output=ModelOutput.LOGITS, crop=Crop.CENTER)
    source = read_model(path, replace(other, crop_fraction=0.875))
    assert (source.manifest.model_name, source.color, source.output) == ("pets", "bgr", "logits")
    assert source.manifest.input.crop_fraction == 0.875
    assert "not given" not in source.origin


@pytest.mark.parametrize(
    ("write", "version", "loader"),
    [
        *((write_hdf5, version, Loader.TF_KERAS) for version in ("2.4.0", "2.2.4-tf", None)),
        *((write_hdf5, "3.15.1", Loader.KERAS3), (write_archive, "3.8.0", Loader.KERAS3)),
        (write_archive, "2.15.0", Loader.TF_KERAS),
    ],
)
def test_the_loader_follows_the_version_that_wrote_the_file(tmp_path, said, write, version, loader):
    assert read_model(write(tmp_path / "m.dat", classifier(), version=version), said).loader is loader


def test_all_that_is_missing_is_asked_for_in_one_sentence(tmp_path, said):
    path = write_hdf5(tmp_path / "m.h5", classifier())
    with pytest.raises(UsageError) as error:
        read_model(path, ForeignOptions(), has_calibration=False)
    assert all(name in str(error.value) for name in ("--labels", "--input-range", "--crop", "--calibration"))
    with pytest.raises(UsageError) as error:
        read_model(path, replace(said, crop=None))
    assert "--crop" in str(error.value)
    assert not any(name in str(error.value) for name in ("--labels", "--input-range", "--calibration"))
    with pytest.raises(UsageError, match="--crop-fraction: goes with --crop center only"):
        read_model(path, replace(said, crop_fraction=0.5))


RESCALING = layer("Rescaling", "rescaling", "image", scale=1 / 127.5, offset=-1)
TRUE_DIVIDE_2 = layer("TFOpLambda", "divide", function="math.truediv")
TRUE_DIVIDE_2["inbound_nodes"] = [["image", 0, 0, {"y": 127.5, "name": None}]]
KERAS_TENSOR = {"class_name": "__keras_tensor__", "config": {"keras_history": ["image", 0, 0]}}
TRUE_DIVIDE_3 = {**layer("TrueDivide", "divide"), "inbound_nodes": [{"args": [KERAS_TENSOR, 127.5], "kwargs": {}}]}


@pytest.mark.parametrize("first", [RESCALING, TRUE_DIVIDE_2, TRUE_DIVIDE_3])
def test_pixels_are_not_scaled_twice(tmp_path, said, first):
    path = write_hdf5(tmp_path / "m.h5", classifier(layer("RandomFlip", "flip", "image"), first))
    with pytest.raises(UsageError, match=r"--input-range -1,1: the first layer .* scales by 0.007843 itself.*0,255"):
        read_model(path, said)
    with pytest.raises(UsageError, match=r"its first layer scales by 0.007843"):
        read_model(path, replace(said, input_range=None))
    assert "its first layer scales by 0.007843" in read_model(path, replace(said, input_range=InputRange.BYTE)).origin
    # One that widens the range is only noted.
    write_hdf5(path, classifier(layer("Rescaling", "rescaling", "image", scale=2, offset=-1)))
    assert "its first layer scales by 2" in read_model(path, replace(said, input_range=InputRange.UNIT)).origin


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (classifier(shape=(None, 8, 8, 1)), r"last axis of 3 for --color rgb, got \[\?, 8, 8, 1\]; use --color gray"),
        (classifier(shape=(None, 8, 8, 4)), r"last axis of 3 for --color rgb, got \[\?, 8, 8, 4\]"),
        (classifier(shape=(None, 3, 8, 8)), r"expected channels last.*got channels first in \[\?, 3, 8, 8\]"),
        (classifier(shape=(None, 128)), r"expected a model of images.*got \[\?, 128\]"),
        (classifier(shape=(1, 8, 8, 3)), r"expected an open batch size, got \[1, 8, 8, 3\]"),
        (classifier(shape=(None, None, None, 3)), r"input size is open \(\[\?, \?, \?, 3\]\); add --image-size"),
        (classifier(units=5), "m.h5 expects 5 labels, one per output, got 3"),
        (classifier(units=1), "m.h5 expects 2 labels for its one output, got 3"),
        (functional(layer("InputLayer", "a"), layer("InputLayer", "b"), inputs=[["a", 0, 0], ["b", 0, 0]]), "2 inputs"),
        (functional(layer("InputLayer", "a"), inputs={"a": ["a", 0, 0], "b": ["b", 0, 0]}), "2 inputs"),
        (functional(layer("InputLayer", "a"), outputs=[["a", 0, 0], ["b", 0, 0]]), "one output, got 2 outputs"),
        (
            {"class_name": "MyModel", "config": {}},
            "'MyModel', whose code is not in the file; export it as a SavedModel",
        ),
        ([1, 2], "expected a configuration with a table of layers"),
    ],
)
def test_what_is_no_classifier_of_images_is_one_sentence(tmp_path, said, config, message):
    with pytest.raises((ModelError, UsageError), match=message) as error:
        read_model(write_hdf5(tmp_path / "m.h5", config), said)
    assert "\n" not in str(error.value)


def test_gray_and_open_sizes_are_completed_by_options(tmp_path, said):
    gray = write_hdf5(tmp_path / "gray.h5", classifier(shape=(None, 8, 8, 1)))
    assert read_model(gray, replace(said, color=ModelColor.GRAY)).color == "gray"
    with pytest.raises(CompatibilityError, match="--color gray is for one channel"):
        read_model(write_hdf5(tmp_path / "rgb.h5", classifier()), replace(said, color=ModelColor.GRAY))
    open_size = write_hdf5(tmp_path / "open.h5", classifier(shape=(None, None, None, 3)))
    assert read_model(open_size, replace(said, image_size=96)).manifest.input.shape_hwc == (96, 96, 3)
    with pytest.raises(UsageError, match="must be 1 to 4096 pixels, got 5000"):
        read_model(open_size, replace(said, image_size=5000))
    with pytest.raises(UsageError, match=r"--image-size 96: .* takes \[\?, 8, 8, 3\]"):
        read_model(write_hdf5(tmp_path / "m.h5", classifier()), replace(said, image_size=96))


def test_one_output_is_a_sigmoid_of_two_labels(tmp_path, said):
    said.labels.write_text("cat\ndog\n")
    output = read_model(write_hdf5(tmp_path / "m.h5", classifier(units=1)), said).manifest.output
    assert (output.head, output.decision_threshold) == (Head.SIGMOID, 0.5)


def test_the_number_of_outputs_is_found_behind_other_layers(tmp_path, said):
    """Nested models, and layers after the last one that has weights."""
    image, conv = layer("InputLayer", "image", batch_shape=[None, 8, 8, 3]), layer("Conv2D", "conv", filters=4)
    inner = layer("Sequential", "inner", layers=[image, conv, layer("GlobalAveragePooling2D", "pool")])
    outer = layer("Sequential", "outer", layers=[inner, layer("Softmax", "softmax")])
    with pytest.raises(CompatibilityError, match="expects 4 labels, one per output, got 3"):
        read_model(write_hdf5(tmp_path / "m.h5", outer), said)
    conv["config"]["filters"] = 3
    assert read_model(write_hdf5(tmp_path / "m.h5", outer), said).manifest.input.shape_hwc == (8, 8, 3)


BIDDEN = {"class_name": "Bidirectional", "config": {"name": "b", "layer": layer("Lambda", "deep")}}
NAMED = {"module": "builtins", "class_name": "function", "config": "get_file", "registered_name": "get_file"}
ACTIVATION = {"module": "os", "class_name": "function", "config": "system", "registered_name": "system"}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (layer("Lambda", "sly"), "layer 'sly' is a Lambda layer.*--unsafe"),
        (layer("TimeDistributed", "wrapper", layer=BIDDEN), "layer 'deep' is a Lambda layer.*--unsafe"),
        (layer("Activation", "a", activation={"class_name": "__lambda__", "config": {"value": "x"}}), "__lambda__"),
        (layer("Whatever", "odd", function_type="lambda", function=["code"]), "layer 'odd' is a Whatever.*--unsafe"),
        (layer("TorchModuleWrapper", "torch"), "TorchModuleWrapper"),
        (layer("TFSMLayer", "t", filepath="/etc"), "layer 't' is a TFSMLayer"),
        (layer("TFOpLambda", "op", function="io.write_file"), "calls the TensorFlow function io.write_file.*--unsafe"),
        (layer("TFOpLambda", "op", function="py_function"), "calls the TensorFlow function py_function"),
        (layer("Activation", "a", activation=ACTIVATION), "of the class system of os, whose code is neither in Keras"),
        ({**layer("Dense", "d"), "module": "keras.utils"}, "of keras.utils, whose code is neither in Keras"),
        (layer("Conv2D", "conv", activation="<lambda>"), "the activation of layer 'conv' is a Python lambda"),
        (layer("Conv2D", "conv", activation={"value": ["code", None, None]}), "layer 'conv' is a Python lambda"),
        ({**layer("Patch", "p"), "registered_name": "mine>Patch"}, "class mine>Patch, whose code.*SavedModel"),
        ({**layer("layers.TFSMLayer", "t"), "module": "keras"}, "'t' is a layers.TFSMLayer layer, which is not on"),
        (layer("layers.Lambda", "t"), "'t' is a layers.Lambda layer"),
        (layer("Patch", "p"), "'p' is a Patch layer, which is not on the list.*--unsafe, which lets code"),
        ({**layer("Dense", "d"), "registered_name": "Lambda"}, "'d' is a Lambda layer"),
        (layer("Dense", "d", kernel_initializer={"class_name": "get_file", "config": {}}), "is a get_file layer"),
        (layer("Dense", "d", kernel_initializer={"class_name": ["Zeros"], "config": {}}), r"is a \['Zeros'\] layer"),
        (layer("Dense", "d", kernel_constraint=NAMED), "'function' names the function get_file"),
        (layer("Dense", "d", bias_constraint={**NAMED, "config": "relu"}), "'function' names the function get_file"),
        (layer("Dense", "d", activation="get_file"), "activation of layer 'd' is 'get_file', which is not on"),
        (layer("Bidirectional", "b", layer=layer("GRU", "g", recurrent_activation="exec")), "layer 'g' is 'exec'"),
        (layer("TFOpLambda", "op", function=["math.add"]), "calls the TensorFlow function"),
        (layer("TFOpLambda", "op", function="image.decode_image"), "calls the TensorFlow function image.decode_image"),
        (layer("ClassMethod", "c", cls_symbol="data.Dataset"), "calls the TensorFlow function data.Dataset"),
        (layer("TensorFlowOpLayer", "o", node_def={"op": "ReadFile"}), "'o' runs the TensorFlow operator ReadFile"),
        (
            layer("TensorFlowOpLayer", "o", node_def="\x0a\x01a\x12\x08ReadFile"),
            "runs the TensorFlow operator ReadFile",
        ),
        (layer("TensorFlowOpLayer", "o", node_def="x"), "runs the TensorFlow operator of a damaged node"),
        (layer("TensorFlowOpLayer", "o"), "runs the TensorFlow operator"),
    ],
)
@pytest.mark.parametrize("write", [write_archive, write_hdf5])
def test_code_in_a_model_is_refused_at_any_depth(tmp_path, said, write, bad, message):
    path = write(tmp_path / "m", classifier(bad))
    with pytest.raises(ModelError, match=message):
        read_model(path, said)
    assert read_model(path, replace(said, unsafe=True)).unsafe


def test_layers_that_calculate_are_let_through(tmp_path, said):
    middle = [
        layer("TFOpLambda", "a", function="__operators__.add"),
        layer("SlicingOpLambda", "b", function="__operators__.getitem"),
        layer("TFOpLambda", "c", function="nn.relu6"),
        {**layer("Dense", "d", units=2), "module": "keras.layers", "registered_name": None},
        {**layer("ReLU", "e"), "module": "keras.src.layers.activations.relu", "registered_name": "ReLU"},
        layer("Activation", "f", activation={"module": "builtins", "class_name": "function", "config": "relu"}),
        layer("TFOpLambda", "g", function="compat.v1.image.resize_bilinear"),
        layer("TensorFlowOpLayer", "h", node_def={"op": "AddV2"}),
        layer("TensorFlowOpLayer", "i", node_def="\x0a\x01a\x12\x05AddV2"),
    ]
    assert read_model(write_archive(tmp_path / "m.keras", classifier(*middle)), said).manifest.labels


@pytest.mark.parametrize("kind", ["half", "head", "flipped"])
@pytest.mark.parametrize("write", [write_archive, write_hdf5])
def test_damaged_files_are_one_sentence(tmp_path, said, write, kind):
    path = write(tmp_path / "m", classifier())
    good = path.read_bytes()
    flipped = good[:40] + b"\xff" * 200 + good[240:]
    path.write_bytes({"half": good[: len(good) // 2], "head": good[:100], "flipped": flipped}[kind])
    with pytest.raises(ModelError, match=r"damaged|is not valid JSON|contains only weights|not of Keras") as error:
        read_model(path, said)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("photo.h5", b"\xff\xd8\xff\xe0" + b"x" * 100, "got a JPEG image"),
        ("notes.keras", b"my notes\n", "got a text file"),
        ("empty.h5", b"", "got an empty file"),
        ("model.tflite", b"\x1c\0\0\0TFL3" + b"\0" * 50, "got a TFLite model, which is converted already"),
        ("model.onnx", b"\x08\x07\x12\x07pytorch", "got an ONNX model, which is converted already"),
        ("saved_model.pb", b"\x08\x01", "the graph of a SavedModel alone; give the folder"),
        ("model.bin", bytes(range(256)), "got a file of another kind"),
    ],
)
def test_what_is_not_a_model_is_said(tmp_path, said, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=f"expected a run directory.*{message}"):
        read_model(tmp_path / name, said)


def test_weights_without_layers_are_said(tmp_path, said):
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file.attrs["layer_names"] = [b"dense"]
    with pytest.raises(ModelError, match=r"contains only weights.*model.save instead of model.save_weights"):
        read_model(tmp_path / "w.h5", said)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["temperature"] = np.zeros(9)
    with pytest.raises(ModelError, match="is an HDF5 file but not of Keras"):
        read_model(tmp_path / "other.h5", said)


def test_archives_of_other_things_are_said(tmp_path, said):
    with zipfile.ZipFile(tmp_path / "converted_keras.zip", "w") as archive:
        archive.writestr("labels.txt", "0 a\n1 b\n")
        archive.writestr("keras_model.h5", b"x")
    with pytest.raises(ModelError, match=r"got none of that; unpack it and give 'keras_model.h5'"):
        read_model(tmp_path / "converted_keras.zip", said)
    for name in ("../outside", "/etc/passwd", "a\\b", "c:d"):
        path = write_archive(tmp_path / "m.keras", classifier(), more=[name])
        with pytest.raises(ModelError, match="points out of the archive"):
            read_model(path, said)
    path = write_archive(tmp_path / "m.keras", "[" * 100_000)
    with pytest.raises(ModelError, match="is not valid JSON"):
        read_model(path, said)


def link_out(file):
    file["elsewhere"] = h5py.ExternalLink("/etc/other.h5", "/x")


def store_out(file):
    file.create_dataset("raw", (4,), "u1", external=[("/etc/hostname", 0, 4)])


def map_out(file):
    layout = h5py.VirtualLayout((4,), "u1")
    layout[:] = h5py.VirtualSource("/etc/other.h5", "x", (4,))
    file.create_virtual_dataset("virtual", layout)


def turn_in_circles(file):
    file["group/loop"] = h5py.SoftLink("/group")
    file["group/again"] = file["group"]


@pytest.mark.parametrize("fill", [link_out, store_out, map_out])
def test_hdf5_that_points_to_other_files_is_refused(tmp_path, said, fill):
    for path in (
        write_hdf5(tmp_path / "m.h5", classifier(), fill=fill),
        write_archive(tmp_path / "m.keras", classifier(), hdf5=weights(fill)),
    ):
        with pytest.raises(ModelError, match="points to another file"):
            read_model(path, said)
    # Links inside the file are ordinary, and a circle of them ends.
    assert read_model(write_hdf5(tmp_path / "n.h5", classifier(), fill=turn_in_circles), said)


def unpacks_to_much(file):
    file.create_dataset("v", (1 << 30,), "f8", chunks=(1 << 16,), compression="gzip")


def unpacks_to_much_together(file):
    for index in range(40):
        file.create_dataset(f"{index}/v", (1 << 19,), "f4", chunks=True, shuffle=True, compression="gzip")


def unpacks_one_large_chunk(file):
    file.create_dataset("v", (2,), "f4", maxshape=(None,), chunks=(1 << 28,), compression="lzf")


def is_never_written(file):
    file.create_dataset("v", (1 << 15, 1 << 15), "f4")


@pytest.mark.parametrize("fill", [unpacks_to_much, unpacks_to_much_together, unpacks_one_large_chunk, is_never_written])
def test_files_that_unpack_to_gigabytes_are_refused(tmp_path, said, fill):
    for path in (
        write_hdf5(tmp_path / "m.h5", classifier(), fill=fill),
        write_archive(tmp_path / "m.keras", classifier(), hdf5=weights(fill)),
    ):
        with pytest.raises(ModelError, match=r"expected at most 6\d MiB of weights in a file of its size, got \d+ MiB"):
            read_model(path, replace(said, unsafe=True))


def test_groups_nested_without_end_are_refused(tmp_path, said):
    path = write_hdf5(tmp_path / "m.h5", classifier(), fill=lambda file: file.create_group("a/" * 3000))
    with pytest.raises(ModelError, match="expected groups at most 50 deep, got more"):
        read_model(path, said)


def test_archives_that_unpack_to_gigabytes_are_refused(tmp_path, said):
    path = write_archive(tmp_path / "m.keras", classifier())
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("more", bytes(70 << 20))
    with pytest.raises(ModelError, match="expected at most 66 MiB of weights in a file of its size, got 70 MiB"):
        read_model(path, said)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("0 pencil case\n1 sharp pen\n2 empty\n", ("pencil case", "sharp pen", "empty")),
        ("\ufeffcat\r\ndog\r\n\r\n", ("cat", "dog")),
        ("1 cat\n2 dog\n", ("1 cat", "2 dog")),
        ("0 cat\ndog\n", ("0 cat", "dog")),
        ("0\n1\n2\n", ("0", "1", "2")),
    ],
)
def test_labels_are_read_line_by_line(tmp_path, content, expected):
    (tmp_path / "l.txt").write_text(content, newline="")
    assert read_labels(tmp_path / "l.txt") == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "at least two labels, got 0"),
        (b"cat\n", "at least two labels, got 1"),
        (b"cat\n\ndog\n", "label 1 must be one printable line"),
        (b"cat\ndog\ncat\n", "the label 'cat' occurs twice"),
        (b"\xff\xd8\xff\xe0\x00", "expected a text file in UTF-8"),
        (b"a" * (5 << 20), "at most 4 MiB"),
    ],
)
def test_bad_labels_are_one_sentence(tmp_path, content, message):
    (tmp_path / "l.txt").write_bytes(content)
    with pytest.raises(UsageError, match=f"^--labels: .*{message}"):
        read_labels(tmp_path / "l.txt")
    with pytest.raises(UsageError, match=r"^--labels: .*cannot be read"):
        read_labels(tmp_path / "gone.txt")


@given(stem=st.text(max_size=90))
def test_any_file_name_gives_a_model_name(stem):
    name = model_name(Path(f"{stem}.h5".replace("/", "").replace("\0", "")))
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name)


def test_looking_at_a_model_loads_no_tensorflow(tmp_path, said):
    path = write_hdf5(tmp_path / "m.h5", classifier())
    code = (
        "import sys\nfrom pathlib import Path\nfrom convert.source.model_source import read_model\n"
        "from convert.source.images import choose_images\nfrom convert.conversion import export_job\n"
        "from convert.options import ForeignOptions, InputRange\nfrom edge_runtime.contract import Crop\n"
        "o = ForeignOptions(Path(sys.argv[2]), InputRange.BYTE, Crop.CENTER)\n"
        "read_model(Path(sys.argv[1]), o)\n"
        "print([m for m in ('tensorflow', 'keras', 'tf_keras', 'onnx') if m in sys.modules])"
    )
    assert run_code(code, path, said.labels).stdout.strip() == "[]"


def test_real_exports_are_understood(real_data):
    weights_folder = real_data("weights")
    options = ForeignOptions(weights_folder / "teachable_machine_labels.txt", InputRange.SIGNED, Crop.CENTER)
    source = read_model(weights_folder / "teachable_machine_keras_model.h5", options)
    assert source.loader is Loader.TF_KERAS
    assert source.manifest.labels == ("pencil case", "sharp pen", "usb and sd reader", "empty")
    assert source.manifest.input.shape_hwc == (224, 224, 3)
    resnet = real_data("mlperf_tiny_ic") / "pretrainedResnet.h5"
    with pytest.raises(CompatibilityError, match="expects 10 labels, one per output, got 4"):
        read_model(resnet, options)
    with pytest.raises(ModelError, match="contains only weights"):
        read_model(weights_folder / "mobilenet_v2_0.35_224_no_top.h5", options)
