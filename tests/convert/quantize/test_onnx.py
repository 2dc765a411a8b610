"""ONNX files: int8 from float32, what they say of themselves, and which runtime they need."""

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from convert import metadata
from convert.options import CalibrationMethod
from convert.quantize.onnx_int8 import (
    layers,
    observe,
    open_session,
    prepared_model,
    quantize_onnx,
    rounded_weights,
    weight_scales,
)
from edge_runtime import Classifier
from edge_runtime.contract import Head, InputSpec, Manifest, OutputSpec
from edge_runtime.errors import EngineError
from edge_runtime.testing import TINY_LABELS, tiny_manifest
from support.programs import run_code

SIZE = 16
CHANNELS = 8


def write_model(path, seed=0, **changed):
    """A small separable network as tf2onnx leaves it: batch normalization unfolded, dense layers as MatMul and Add."""
    rng = np.random.default_rng(seed)
    constants = {
        "scale": np.array([1 / 127.5]),
        "minus_one": np.array([-1.0]),
        "stem": rng.normal(0, 0.3, (CHANNELS, 3, 3, 3)),
        "stem_bias": rng.normal(0, 0.1, CHANNELS),
        "depthwise": rng.normal(0, 0.3, (CHANNELS, 1, 3, 3)) * rng.uniform(0.1, 4, (CHANNELS, 1, 1, 1)),
        "gamma": rng.uniform(0.5, 2, (1, CHANNELS, 1, 1)),
        "beta": rng.normal(0.5, 0.2, (1, CHANNELS, 1, 1)),
        "zero": np.array(0.0),
        "six": np.array(6.0),
        "hidden": rng.normal(0, 0.5, (CHANNELS, 6)),
        "last": rng.normal(0, 0.8, (6, len(TINY_LABELS))),
        "last_bias": rng.normal(0, 0.1, len(TINY_LABELS)),
    } | changed
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["pixels", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "minus_one"], ["centred"]),
        helper.make_node("Transpose", ["centred"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["nchw", "stem", "stem_bias"], ["c0"], strides=[2, 2], pads=[0, 0, 1, 1]),
        helper.make_node("Clip", ["c0", "zero", "six"], ["r0"]),
        helper.make_node("Conv", ["r0", "depthwise"], ["c1"], group=CHANNELS, pads=[1, 1, 1, 1]),
        helper.make_node("Mul", ["c1", "gamma"], ["m1"]),
        helper.make_node("Add", ["m1", "beta"], ["a1"]),
        helper.make_node("Clip", ["a1", "zero", "six"], ["r1"]),
        helper.make_node("ReduceMean", ["r1", "axes"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "hidden"], ["h"]),
        helper.make_node("Relu", ["h"], ["hr"]),
        helper.make_node("MatMul", ["hr", "last"], ["l"]),
        helper.make_node("Add", ["l", "last_bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1),
    ]
    initializers = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()]
    initializers.append(numpy_helper.from_array(np.array([2, 3], np.int64), "axes"))
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", SIZE, SIZE, 3])
    scores = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", len(TINY_LABELS)])
    graph = helper.make_graph(nodes, "small", [image], [scores], initializers)
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 18)])
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))
    return path


def run(path, images):
    return open_session(str(path)).run(["probabilities"], {"image": images})[0]


def constants_of(model):
    return {entry.name: numpy_helper.to_array(entry) for entry in model.graph.initializer}


@pytest.fixture(scope="module")
def images():
    """Smooth coloured images, uint8 [96, SIZE, SIZE, 3]."""
    rng = np.random.default_rng(5)
    coarse = rng.integers(0, 256, (96, 4, 4, 3)).repeat(SIZE // 4, axis=1).repeat(SIZE // 4, axis=2)
    return np.clip(coarse + rng.normal(0, 10, coarse.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("onnx") / "base.onnx")


@pytest.fixture(scope="module")
def int8(base, images):
    destination = base.with_name("int8.onnx")
    quantize_onnx(base, images[:48], destination)
    return destination


def test_the_interface_stays_and_the_batch_is_still_free(base, int8, images):
    before, after = onnx.load(str(base)), onnx.load(str(int8))
    onnx.checker.check_model(after, full_check=True)
    assert after.graph.input == before.graph.input
    assert after.graph.output == before.graph.output
    assert (after.opset_import, after.ir_version) == (before.opset_import, before.ir_version)
    together = run(int8, images[:5])
    assert together.shape == (5, len(TINY_LABELS))
    assert together.dtype == np.float32
    one_by_one = np.concatenate([run(int8, image[np.newaxis]) for image in images[:5]])
    np.testing.assert_allclose(together, one_by_one, atol=1e-6)


def test_weights_are_uint8_by_channel_and_so_are_activations(int8):
    model = onnx.load(str(int8))
    constants = constants_of(model)
    producers = {node.output[0]: node for node in model.graph.node}
    found = {}
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm", "MatMul"):
            activation, weights = producers[node.input[0]], producers[node.input[1]]
            assert (activation.op_type, weights.op_type) == ("DequantizeLinear", "DequantizeLinear")
            assert constants[activation.input[2]].dtype == np.uint8
            # With int8 weights, x86 processors without VNNI saturate and answer otherwise than all others.
            assert constants[weights.input[0]].dtype == np.uint8
            assert set(np.ravel(constants[weights.input[2]])) == {128}
            found[node.op_type] = constants[weights.input[1]].size
    assert found == {"Conv": CHANNELS, "MatMul": 6, "Gemm": len(TINY_LABELS)}
    # Batch normalization went into the convolution before it, and the pixels' scaling stayed as it was.
    assert [node.op_type for node in model.graph.node].count("Mul") == 1
    assert producers["probabilities"].op_type == "Softmax"


def test_int8_answers_as_float32_does(base, int8, images):
    exact, rounded = run(base, images), run(int8, images)
    assert len(set(exact.argmax(axis=1))) > 1
    assert (exact.argmax(axis=1) == rounded.argmax(axis=1)).mean() >= 0.95
    assert np.abs(exact - rounded).mean() < 0.01


def bias_of(path, index):
    model = onnx.load(str(path))
    constants = constants_of(model)
    conv = [node for node in model.graph.node if node.op_type == "Conv"][index]
    pair = next(node for node in model.graph.node if node.output[0] == conv.input[2])
    steps = constants[pair.input[1]]
    return constants[pair.input[0]] * steps, steps


def test_a_corrected_bias_holds_what_rounding_the_weights_misses(base, int8, images, tmp_path):
    quantize_onnx(base, images[:48], tmp_path / "plain.onnx", correct_bias=False)
    (corrected, steps), (plain, _) = bias_of(int8, 1), bias_of(tmp_path / "plain.onnx", 1)
    model = prepared_model(base)
    depthwise = list(layers(model))[1]
    scales = weight_scales(depthwise, observe(model, images[:48], [], CalibrationMethod.MIN_MAX)[0])
    error = (depthwise.weights - rounded_weights(depthwise, scales))[:, 0]
    # Every image through the layer, place by place, in place of the mean image.
    seen = prepared_model(base)
    seen.graph.output.append(next(info for info in seen.graph.value_info if info.name == depthwise.input))
    inputs = open_session(seen.SerializeToString()).run([depthwise.input], {"image": images[:48]})[0]
    padded = np.pad(inputs, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    missed = np.einsum("nchwij,cij->c", windows, error) / (len(inputs) * inputs.shape[2] * inputs.shape[3])
    assert np.abs(missed).max() > 20 * steps.max()
    assert np.all(np.abs(corrected - plain - missed) <= 1.01 * steps)


def test_a_channel_next_to_nothing_keeps_its_bias(tmp_path, images):
    # Folded batch normalization leaves such channels; at its own scale the bias would need more than 32 bits.
    stem = np.random.default_rng(2).normal(0, 0.3, (CHANNELS, 3, 3, 3))
    stem[0], stem[1] = 1e-12, 0.0
    base = write_model(tmp_path / "base.onnx", stem=stem, stem_bias=np.full(CHANNELS, 3.0))
    quantize_onnx(base, images, tmp_path / "int8.onnx")
    assert np.abs(run(base, images) - run(tmp_path / "int8.onnx", images)).max() < 0.05
    first = next(layers(prepared_model(base)))
    scales = weight_scales(first, {first.input: (-1.0, 1.0)})
    assert np.all(3.0 / (scales * 2 / 255) < 2**31)
    assert np.abs(rounded_weights(first, scales)[2:] - stem[2:]).max() <= scales[2:].max() / 2 + 1e-7


@pytest.mark.parametrize("method", CalibrationMethod)
def test_every_method_gives_ranges_within_what_was_seen(base, images, method, tmp_path):
    model = prepared_model(base)
    full = observe(model, images, [], CalibrationMethod.MIN_MAX)[0]
    ranges = observe(model, images, [], method)[0]
    assert set(ranges) == set(full)
    for name, (low, high) in ranges.items():
        slack = 0.01 * (full[name][1] - full[name][0])
        assert full[name][0] - slack <= low <= 0.0 <= high <= full[name][1] + slack
    quantize_onnx(base, images, tmp_path / "int8.onnx", method=method)
    agreement = run(base, images).argmax(axis=1) == run(tmp_path / "int8.onnx", images).argmax(axis=1)
    assert agreement.mean() >= 0.9


def test_means_are_those_of_all_images(base, images):
    model = prepared_model(base)
    first = next(layers(model))
    mean = observe(model, images, [first.input], CalibrationMethod.MIN_MAX)[1][first.input]
    expected = (images.mean(axis=0) / 127.5 - 1).transpose(2, 0, 1)[np.newaxis]
    np.testing.assert_allclose(mean, expected, atol=1e-5)


def test_it_is_silent_repeatable_and_without_tensorflow(base, int8, images, tmp_path):
    np.save(tmp_path / "images.npy", images[:48])
    script = (
        "import sys, numpy as np; from pathlib import Path; from convert.quantize.onnx_int8 import quantize_onnx;"
        "base, images, out = sys.argv[1:]; quantize_onnx(Path(base), np.load(images), Path(out));"
        "assert 'tensorflow' not in sys.modules"
    )
    done = run_code(script, base, tmp_path / "images.npy", tmp_path / "again.onnx", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "again.onnx").read_bytes() == int8.read_bytes()


def test_what_is_no_model_is_refused_in_a_sentence(tmp_path, images):
    (tmp_path / "base.onnx").write_bytes(b"not a model")
    with pytest.raises(EngineError, match="cannot open the float32 model"):
        quantize_onnx(tmp_path / "base.onnx", images, tmp_path / "int8.onnx")
    assert not (tmp_path / "int8.onnx").exists()


def test_an_embedded_int8_file_is_enough_for_the_device(int8, images, tmp_path):
    path = tmp_path / "tiny.onnx"
    path.write_bytes(int8.read_bytes())
    metadata.embed_onnx(path, tiny_manifest(SIZE))
    with Classifier(path) as classifier:
        assert classifier.labels == TINY_LABELS
        np.testing.assert_allclose(classifier.probabilities(images[0]), run(int8, images[:1])[0], atol=1e-6)


def test_metadata_is_what_the_specification_says(base, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(base.read_bytes())
    manifest = Manifest("pets", TINY_LABELS, InputSpec(SIZE, SIZE), OutputSpec(Head.SOFTMAX, 0.0), training=None)
    metadata.embed_onnx(path, manifest)
    metadata.embed_onnx(path, manifest)  # again, as after a repair
    model = onnx.load(str(path))
    onnx.checker.check_model(model, full_check=True)
    entries = {entry.key: entry.value for entry in model.metadata_props}
    assert len(entries) == len(model.metadata_props)
    assert entries["Image.BitmapPixelFormat"] == "Rgb8"
    assert entries["Image.ColorSpaceGamma"] == "SRGB"
    assert entries["Image.NominalPixelRange"] == "NominalRange_0_255"
    assert entries["edgekit.labels"].split() == list(TINY_LABELS)
    assert json.loads(entries["edgekit.manifest"])["model_name"] == "pets"
    image, scores = model.graph.input[0].type, model.graph.output[0].type
    assert (image.denotation, scores.denotation) == ("IMAGE", "TENSOR")
    axes = [side.denotation for side in image.tensor_type.shape.dim]
    assert axes == ["DATA_BATCH", "DATA_FEATURE", "DATA_FEATURE", "DATA_CHANNEL"]


def test_minimum_runtime_names_opset_and_onnx_runtime(base, int8):
    assert metadata.onnx_minimum_runtime(base) == "onnx opset 18, onnxruntime 1.14"
    assert metadata.onnx_minimum_runtime(int8) == "onnx opset 18, onnxruntime 1.14"


@pytest.mark.parametrize(
    ("opset", "ir_version", "expected"),
    [
        (13, 7, "onnxruntime 1.7"),
        (13, 8, "onnxruntime 1.9"),
        (17, 8, "onnxruntime 1.12"),
        (18, 9, "onnxruntime 1.16"),
        (21, 10, "onnxruntime 1.18"),
        (22, 10, "an onnxruntime after 1.18"),
    ],
)
def test_the_lowest_onnx_runtime_knows_both_versions(opset, ir_version, expected):
    assert metadata.lowest_onnxruntime(opset, ir_version) == expected
