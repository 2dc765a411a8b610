"""uint8 at both ends of integer models: pixels go in untouched, 256ths come out."""

import numpy as np
import pytest

from convert.quantize.calibration import open_interpreter, probabilities
from convert.quantize.gptq import GptqRounder, observe
from convert.quantize.graph import FloatGraph
from convert.quantize.tflite import TfliteQuantizer
from convert.quantize.tflite_finish import cut_head
from convert.tflite_model import unpack_model
from support.quantization import calibrated
from support.tflite_models import CAST_OPTIONS, RELU, build_chain, convolution_options, operators_of

SIDE = 8
RNG = np.random.default_rng(3)
IMAGES = RNG.integers(0, 256, (24, SIDE, SIDE, 3), np.uint8)
# Every grey level occurs in the first two images.
IMAGES[0] = np.arange(64, 256).reshape(SIDE, SIDE, 3)
IMAGES[1] = np.arange(192).reshape(SIDE, SIDE, 3)


def scaling(scale, offset):
    steps = [("MUL", np.float32(scale))] * (scale != 1) + [("ADD", np.float32(offset))] * (offset != 0)
    return [(name, (1, SIDE, SIDE, 3), {"kind": f"{name.title()}Options"}, value) for name, value in steps]


def classifier(head):
    rng = np.random.default_rng(4)
    weights = (rng.normal(size=(6, 3, 3, 3)) / 5).astype(np.float32)
    steps = [
        ("CAST", (1, SIDE, SIDE, 3), CAST_OPTIONS),
        *head,
        ("CONV_2D", (1, SIDE, SIDE, 6), convolution_options(activation=RELU), weights, np.full(6, 0.3, np.float32)),
        ("MEAN", (1, 6), {"kind": "ReducerOptions", "keepDims": False}, np.array([1, 2], np.int32)),
        ("FULLY_CONNECTED", (1, 4), {"kind": "FullyConnectedOptions"}, rng.normal(size=(4, 6)).astype(np.float32) * 3,
         np.zeros(4, np.float32)),
        ("SOFTMAX", (1, 4), {"kind": "SoftmaxOptions", "beta": 1.0}),
    ]  # fmt: skip
    return FloatGraph(build_chain((1, SIDE, SIDE, 3), steps))


def int8_of(graph, *, rounded=False, **choices):
    rounder = GptqRounder(graph, observe(graph, IMAGES, seed=0)) if rounded else None
    return TfliteQuantizer(graph).int8(calibrated(graph, IMAGES), rounder, **choices)


def names_of(data):
    return [name for name, _ in operators_of(data)]


WHOLE = [(1 / 255, 0.0), (1 / 64, -2.0), (1.0, 0.0), (2.0, -256.0)]
BETWEEN = [(1 / 127.5, -1.0), (1 / 100, -0.333), (1 / 100, -0.337), (1.0, -127.5)]


@pytest.mark.parametrize(("scale", "offset"), WHOLE + BETWEEN)
def test_the_input_stands_for_the_scaled_pixel_within_half_a_grey_level(scale, offset):
    detail = open_interpreter(int8_of(classifier(scaling(scale, offset)))).get_input_details()[0]
    assert detail["dtype"] == np.uint8
    assert detail["shape"].tolist() == [1, SIDE, SIDE, 3]
    found_scale, zero_point = detail["quantization"]
    pixels = np.arange(256)
    difference = found_scale * (pixels - zero_point) - (scale * pixels + offset)
    assert np.abs(difference).max() <= scale * 0.5001
    if (scale, offset) in WHOLE:
        np.testing.assert_allclose(difference, 0, atol=scale * 1e-4)


@pytest.mark.parametrize(("scale", "offset"), WHOLE + BETWEEN)
def test_a_pixel_reaches_the_first_layer_as_itself_less_128(scale, offset):
    data = int8_of(classifier(scaling(scale, offset)))
    assert names_of(data) == ["QUANTIZE", "CONV_2D", "MEAN", "FULLY_CONNECTED", "SOFTMAX", "QUANTIZE"]
    interpreter = open_interpreter(data, keep_tensors=True)
    first = unpack_model(data).subgraphs[0].operators[0]
    assert np.unique(IMAGES[:2]).size == 256
    for image in IMAGES[:2]:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[np.newaxis])
        interpreter.invoke()
        np.testing.assert_array_equal(interpreter.get_tensor(first.outputs[0])[0], image.astype(int) - 128)


def test_a_scaling_by_255_is_exact_and_256ths_come_out():
    interpreter = open_interpreter(int8_of(classifier(scaling(1 / 255, 0))))
    (image,), (answer,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert image["quantization"] == (pytest.approx(1 / 255, rel=1e-6), 0)
    assert (answer["dtype"], answer["quantization"]) == (np.uint8, (1 / 256, 0))


@pytest.mark.parametrize("per_tensor", [False, True])
@pytest.mark.parametrize(("scale", "offset"), [(1 / 255, 0.0), (1 / 127.5, -1.0), (1 / 100, -0.333)])
def test_the_answers_stay_near_those_of_float32(scale, offset, per_tensor):
    graph = classifier(scaling(scale, offset))
    exact = probabilities(graph.data, IMAGES)
    found = probabilities(int8_of(graph, per_tensor=per_tensor, rounded=True), IMAGES)
    assert np.ptp(exact) > 0.2
    np.testing.assert_allclose(found, exact, atol=4 / 256)


def test_half_a_grey_level_is_made_good_by_the_first_bias():
    graph = classifier(scaling(1 / 127.5, -1.0))
    head = cut_head(graph)
    assert abs(head.shift) == pytest.approx(0.5 / 127.5, rel=1e-3)
    exact, files = probabilities(graph.data, IMAGES), (int8_of(graph), int8_of(graph, rounded=True))
    nearest, rounded = (np.abs(probabilities(data, IMAGES) - exact).mean() for data in files)
    assert rounded < nearest


@pytest.mark.parametrize(
    ("scale", "offset"), [(-1 / 255, 1.0), (1 / 255, -3.0), (1 / 255, 1.0)], ids=["inverted", "far below", "above"]
)
def test_what_no_zero_point_can_say_is_scaled_in_float32(scale, offset):
    graph = classifier(scaling(scale, offset))
    assert cut_head(graph) is None
    data = int8_of(graph)
    assert names_of(data)[:4] == ["CAST", "MUL", "ADD", "QUANTIZE"]
    assert open_interpreter(data).get_input_details()[0]["dtype"] == np.uint8
    np.testing.assert_allclose(probabilities(data, IMAGES), probabilities(graph.data, IMAGES), atol=8 / 256)


def test_scaling_by_channel_is_left_to_integers():
    values = np.array([0.004, 0.005, 0.003], np.float32)
    graph = classifier([("MUL", (1, SIDE, SIDE, 3), {"kind": "MulOptions"}, values)])
    data = int8_of(graph)
    detail = open_interpreter(data).get_input_details()[0]
    assert (detail["dtype"], detail["quantization"]) == (np.uint8, (1.0, 0))
    assert names_of(data)[:2] == ["QUANTIZE", "MUL"]
    np.testing.assert_allclose(probabilities(data, IMAGES), probabilities(graph.data, IMAGES), atol=8 / 256)


@pytest.mark.parametrize(("kept", "name"), [("3/conv_2d", "CONV_2D"), ("6/softmax", "SOFTMAX")])
def test_an_end_in_float32_keeps_its_pixels_or_its_probabilities(kept, name):
    graph = classifier(scaling(1 / 127.5, -1.0))
    assert kept in graph.activations()
    data = int8_of(graph, kept=[kept])
    interpreter = open_interpreter(data)
    expected = (np.uint8, np.uint8 if name == "CONV_2D" else np.float32)
    assert (interpreter.get_input_details()[0]["dtype"], interpreter.get_output_details()[0]["dtype"]) == expected
    head = ["CAST", "MUL", "ADD", "CONV_2D", "QUANTIZE"] if name == "CONV_2D" else ["QUANTIZE", "CONV_2D"]
    assert names_of(data)[: len(head)] == head
    np.testing.assert_allclose(probabilities(data, IMAGES), probabilities(graph.data, IMAGES), atol=6 / 256)


def test_names_of_the_ends_are_given_once():
    graph = unpack_model(int8_of(classifier(scaling(1 / 255, 0)))).subgraphs[0]
    names = [tensor.name for tensor in graph.tensors]
    assert [graph.tensors[i].name for i in (*graph.inputs, *graph.outputs)] == [b"image", b"probabilities"]
    used = {int(i) for operator in graph.operators for i in (*operator.inputs, *operator.outputs)}
    assert [names[i] for i in sorted(used)].count(b"image") == 1
