"""Calibrated rounding: closer than nearest on the whole, on the grid, biases corrected, and nothing else touched."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convert.quantize.calibration import probabilities
from convert.quantize.gptq import GptqRounder, observe, round_rows, to_float16, to_int8
from convert.quantize.graph import DEPTHWISE_CONV_2D, FloatGraph
from convert.quantize.tflite import TfliteQuantizer
from convert.tflite_model import text, unpack_model
from support.quantization import calibrated, tensor_values, toned_images
from support.tflite_models import (
    CAST_OPTIONS,
    RELU,
    Operator,
    Tensor,
    build_model,
    constants,
    convolution_options,
    floats,
    operators_of,
)

FLOAT32, FLOAT16, INT32, INT8 = 0, 1, 2, 9
SIDE = 8
RNG = np.random.default_rng(9)
IMAGES = toned_images(40, SIDE, RNG, darkest=20)
CONVOLUTION, DEPTHWISE = (convolution_options(activation=RELU, depthwise=depthwise) for depthwise in (False, True))


def correlated(layers, width, rank, seed):
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(layers, width, rank))
    return mixing @ mixing.swapaxes(1, 2) + 0.05 * np.eye(width)


def output_error(weights, rounded, covariance):
    difference = weights - rounded
    return np.einsum("loi,lij,loj->l", difference, covariance, difference)


seeds = st.integers(0, 2**32 - 1)


@given(seeds, st.integers(2, 24), st.integers(1, 6), st.sampled_from([3, 7, 127]))
def test_on_average_it_is_never_worse_than_nearest(seed, width, rank, levels):
    covariance = correlated(16, width, rank, seed)
    weights = np.random.default_rng(seed).uniform(-1, 1, (16, 32, width))
    grid = to_int8(np.full((16, 32), 1 / levels))
    calibrated = output_error(weights, round_rows(weights, covariance, grid), covariance).mean()
    nearest = output_error(weights, np.rint(weights * levels) / levels, covariance).mean()
    assert calibrated <= nearest


def test_for_inputs_that_vary_together_it_is_far_better_than_nearest():
    covariance = correlated(8, 24, 2, seed=1)
    weights = np.random.default_rng(1).uniform(-1, 1, (8, 32, 24))
    grid = to_int8(np.full((8, 32), 1 / 31))
    calibrated = output_error(weights, round_rows(weights, covariance, grid), covariance).mean()
    assert calibrated < 0.25 * output_error(weights, np.rint(weights * 31) / 31, covariance).mean()


@given(seeds, st.floats(1e-3, 1.0))
def test_int8_values_are_whole_steps_within_127(seed, scale):
    # Weights far beyond the grid too.
    weights = np.random.default_rng(seed).normal(scale=60 * scale, size=(2, 5, 6))
    rounded = round_rows(weights, correlated(2, 6, 2, seed), to_int8(np.full((2, 5), scale))) / scale
    np.testing.assert_allclose(rounded, np.rint(rounded), atol=1e-6)
    assert np.abs(rounded).max() <= 127 + 1e-6


@given(seeds)
def test_float16_values_are_of_half_precision(seed):
    weights = np.random.default_rng(seed).normal(size=(2, 5, 6))
    rounded = round_rows(weights, correlated(2, 6, 2, seed), to_float16)
    np.testing.assert_array_equal(rounded, rounded.astype(np.float16))
    np.testing.assert_allclose(rounded, weights, atol=0.01)


@given(seeds)
def test_many_layers_at_once_are_rounded_as_one_by_one(seed):
    weights = np.random.default_rng(seed).normal(size=(5, 3, 9))
    covariance, scale = correlated(5, 9, 3, seed), np.random.default_rng(seed).uniform(0.01, 0.1, (5, 3))
    together = round_rows(weights, covariance, to_int8(scale))
    alone = [round_rows(weights[i : i + 1], covariance[i : i + 1], to_int8(scale[i : i + 1]))[0] for i in range(5)]
    np.testing.assert_allclose(together, alone, atol=1e-9)


@given(seeds)
def test_inputs_that_vary_apart_are_rounded_to_nearest(seed):
    rng = np.random.default_rng(seed)
    weights, scale = rng.uniform(-1, 1, (3, 4, 7)), rng.uniform(0.01, 0.1, (3, 4))
    covariance = rng.uniform(0, 5, (3, 7))[:, :, np.newaxis] * np.eye(7)
    expected = np.clip(np.rint(weights / scale[:, :, np.newaxis]), -127, 127) * scale[:, :, np.newaxis]
    np.testing.assert_allclose(round_rows(weights, covariance, to_int8(scale)), expected, atol=1e-9)


def test_inputs_that_never_vary_are_rounded_to_nearest():
    weights = np.array([[[0.26, -0.74]]])
    np.testing.assert_allclose(round_rows(weights, np.zeros((1, 2, 2)), to_int8(np.array([[0.5]]))), [[[0.5, -0.5]]])


def weight(*shape):
    return (RNG.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


def model_of(values, operators, widths):
    """CAST, scaling to -1..1, then operators on activations of these widths, all of one side length."""
    shape = (1, SIDE, SIDE)
    head = dict.fromkeys(("cast", "scaled", "real"), (*shape, 3))
    tensors = [Tensor("pixels", (*shape, 3), "uint8", None), *floats(head)]
    tensors += constants({"scale": np.float32(1 / 127.5), "offset": np.float32(-1), **values})
    tensors += floats({name: (*shape, width) for name, width in widths.items()})
    scaling = [
        Operator("CAST", ["pixels"], ["cast"], 1, CAST_OPTIONS),
        Operator("MUL", ["cast", "scale"], ["scaled"], 1, {"kind": "MulOptions"}),
        Operator("ADD", ["scaled", "offset"], ["real"], 1, {"kind": "AddOptions"}),
    ]
    return FloatGraph(build_model(tensors, scaling + operators))


@pytest.fixture(scope="module")
def graph():
    """A convolution, one of which an output has no weights at all, a depthwise and a dense-like one."""
    values = {"w1": weight(8, 3, 3, 3), "b1": weight(8), "w2": weight(1, 3, 3, 8), "b2": weight(8)}
    values["w1"][5], values["b1"][5] = 0, 0.4
    values |= {"w3": 2 * weight(6, 1, 1, 8), "b3": weight(6)}
    operators = [
        Operator("CONV_2D", ["real", "w1", "b1"], ["first"], 1, CONVOLUTION),
        Operator("DEPTHWISE_CONV_2D", ["first", "w2", "b2"], ["second"], 1, DEPTHWISE),
        Operator("CONV_2D", ["second", "w3", "b3"], ["third"], 1, {**CONVOLUTION, "fusedActivationFunction": 0}),
    ]
    return model_of(values, operators, {"first": 8, "second": 8, "third": 6})


def parts_of(data):
    """A ``ModelT``, its tensors by name, and its operators by the name of their output."""
    model = unpack_model(data)
    graph = model.subgraphs[0]
    operators = {text(graph.tensors[operator.outputs[0]].name): operator for operator in graph.operators}
    return model, {text(tensor.name): tensor for tensor in graph.tensors}, operators


def stored(model, tensor):
    data = bytes(model.buffers[tensor.buffer].data)
    dtype = {FLOAT32: np.float32, FLOAT16: np.float16, INT32: np.int32, INT8: np.int8}[tensor.type]
    values = np.frombuffer(data, dtype).astype(np.float64).reshape(tensor.shape)
    if tensor.type in (FLOAT32, FLOAT16):
        return values
    scale = np.asarray(tensor.quantization.scale, np.float64)
    along = [1] * values.ndim
    along[tensor.quantization.quantizedDimension] = len(scale)
    return values * scale.reshape(along)


def mean_errors(graph, data, inputs, shift=None):
    """By layer: the mean error of each output, if its input were exact or larger by ``shift``."""
    model, tensors, operators = parts_of(data)
    errors = {}
    for layer in graph.layers():
        wide = (lambda w: w[0].reshape(-1, w.shape[3]).T) if layer.kind == DEPTHWISE_CONV_2D else np.asarray
        exact = wide(graph.constant(layer.weights))
        rounded = wide(stored(model, tensors[layer.weights]))
        mean, off = inputs[layer.output].mean, (shift or {}).get(layer.output, 0.0)
        exact, rounded = exact.reshape(len(exact), -1), rounded.reshape(len(exact), -1)
        bias = model.subgraphs[0].tensors[operators[layer.output].inputs[2]]
        missing = stored(model, bias) - graph.constant(layer.bias)
        errors[layer.output] = (rounded * (mean + off)).sum(axis=1) - (exact * mean).sum(axis=1) + missing
    return errors


@pytest.fixture(scope="module")
def inputs(graph):
    return observe(graph, IMAGES, seed=0)


@pytest.fixture(scope="module")
def quantizer(graph):
    return TfliteQuantizer(graph)


@pytest.fixture
def rounder(graph, inputs):
    return GptqRounder(graph, inputs)


@pytest.fixture(scope="module")
def found(graph):
    return calibrated(graph, IMAGES)


@pytest.mark.parametrize("variant", ["float16", "dynamic"])
def test_biases_make_the_mean_error_zero(variant, graph, inputs, quantizer, rounder, monkeypatch):
    monkeypatch.setattr("convert.quantize.tflite.FEW_WEIGHTS", 0)
    nearest, corrected = (mean_errors(graph, getattr(quantizer, variant)(r), inputs) for r in (None, rounder))
    for layer, errors in corrected.items():
        assert np.abs(nearest[layer]).max() > 1e-6
        np.testing.assert_allclose(errors, 0, atol=2e-7, err_msg=layer)


def test_integer_biases_make_the_mean_error_less_than_a_step(graph, inputs, found, quantizer, rounder):
    # -1 is 127.5 grey levels of 1/127.5: the nearest whole zero point leaves half a level, which the bias takes over.
    shift = {"first": float(-np.rint(127.5 - 1e-6) / 127.5 + 1)}
    data = quantizer.int8(found, rounder)
    nearest = mean_errors(graph, quantizer.int8(found, None), inputs, shift)
    corrected = mean_errors(graph, data, inputs, shift)
    model, _, operators = parts_of(data)
    for layer, errors in corrected.items():
        steps = model.subgraphs[0].tensors[operators[layer].inputs[2]].quantization.scale
        assert np.all(np.abs(errors) <= 1.01 * np.asarray(steps) + 1e-7)
        assert np.any(np.abs(nearest[layer]) > 5 * np.asarray(steps))


def test_float16_keeps_layers_of_few_weights(graph, quantizer, rounder):
    # All layers of this model are small.
    found = probabilities(quantizer.float16(rounder), IMAGES)
    assert np.array_equal(found, probabilities(graph.data, IMAGES))


def test_a_float32_start_reads_pixels_as_they_are_and_makes_the_half_level_good(graph, found, quantizer, rounder):
    data = quantizer.int8(found, rounder, kept=["first"])
    model = unpack_model(data)
    assert operators_of(data)[0][0] == "DEQUANTIZE"
    assert model.subgraphs[0].tensors[model.subgraphs[0].inputs[0]].type == 3  # uint8
    # At the edge, padding stands for a true zero and needs no correction: there the half level stays.
    found_at, expected = (tensor_values(file, "first", IMAGES) for file in (data, graph.data))
    np.testing.assert_allclose(found_at[:, 1:-1, 1:-1], expected[:, 1:-1, 1:-1], atol=1e-5)
    np.testing.assert_allclose(found_at, expected, atol=0.02)


def test_what_the_model_computes_is_closer_than_with_nearest_rounding(graph, found, quantizer, rounder, monkeypatch):
    monkeypatch.setattr("convert.quantize.tflite.FEW_WEIGHTS", 0)
    exact = probabilities(graph.data, IMAGES)
    for nearest, rounded in (
        (quantizer.int8(found, None), quantizer.int8(found, rounder)),
        (quantizer.int8(found, None, per_tensor=True), quantizer.int8(found, rounder, per_tensor=True)),
        (quantizer.int16x8(found, None), quantizer.int16x8(found, rounder)),
        (quantizer.float16(None), quantizer.float16(rounder)),
    ):
        before, after = (np.abs(probabilities(data, IMAGES) - exact).mean() for data in (nearest, rounded))
        assert after < before
        assert len(rounded) == len(nearest)


@pytest.mark.parametrize("rounded", [False, True])
@pytest.mark.parametrize("variant", ["int8", "int16x8"])
def test_the_bias_of_an_output_without_weights_is_kept(variant, rounded, graph, found, quantizer, rounder):
    data = getattr(quantizer, variant)(found, rounder if rounded else None)
    expected = tensor_values(graph.data, "first", IMAGES)[..., 5]
    assert expected.max() > 0
    np.testing.assert_allclose(tensor_values(data, "first", IMAGES)[..., 5], expected, atol=found["first"][1] / 255)


def test_an_output_without_weights_stays_so(found, quantizer, rounder):
    model, tensors, _ = parts_of(quantizer.int8(found, rounder))
    assert not stored(model, tensors["w1"])[5].any()
    assert stored(model, tensors["w1"])[4].any()


def test_layers_in_float32_stay_as_they_are(graph, found, quantizer, rounder):
    model, tensors, _ = parts_of(quantizer.int8(found, rounder, kept=["second"]))
    for name in ("w2", "b2"):
        assert tensors[name].type == FLOAT32
        np.testing.assert_array_equal(stored(model, tensors[name]), graph.constant(name))
    assert tensors["w1"].type == INT8


def test_a_layer_that_was_not_looked_at_stays_rounded_to_nearest(graph, inputs, quantizer):
    without = {name: seen for name, seen in inputs.items() if name != "third"}

    def values(rounder):
        model, tensors, _ = parts_of(quantizer.dynamic(rounder))
        return {name: stored(model, tensors[name]).tolist() for name in ("w1", "w3", "b3")}

    nearest, refined = values(None), values(GptqRounder(graph, without))
    assert nearest["w3"] == refined["w3"]
    assert nearest["b3"] == refined["b3"]
    assert nearest["w1"] != refined["w1"]


def test_a_buffer_in_common_is_not_changed_for_the_other_tensor(graph, inputs, quantizer):
    model, tensors, operators = parts_of(quantizer.dynamic(None))
    tensors["b3"].buffer = tensors["w1"].buffer
    tensors["b3"].type, tensors["b3"].name = INT8, b"not a bias any more"
    operator = operators["third"]
    operator.inputs = [*operator.inputs[:2], *unpack_model(graph.data).subgraphs[0].operators[3].inputs[2:3]]
    before = bytes(model.buffers[tensors["w1"].buffer].data)
    without = {name: seen for name, seen in inputs.items() if name == "first"}
    GptqRounder(graph, without).refine(model)
    assert bytes(model.buffers[tensors["b3"].buffer].data) == before
    assert bytes(model.buffers[tensors["w1"].buffer].data) != before


def twice(second_weights, second_bias):
    """Two convolutions, whose constants are named; equal names are one tensor."""
    values = {name: weight(3, 3, 3, 3) for name in ("w1", "w2")} | {name: weight(3) for name in ("b1", "b2")}
    values = {n: v for n, v in values.items() if n in ("w1", "b1", second_weights, second_bias)}
    operators = [
        Operator("CONV_2D", ["real", "w1", "b1"], ["first"], 1, CONVOLUTION),
        Operator("CONV_2D", ["first", second_weights, second_bias], ["second"], 1, CONVOLUTION),
    ]
    return model_of(values, operators, {"first": 3, "second": 3})


def test_a_bias_of_two_layers_is_corrected_for_each():
    graph = twice("w2", "b1")
    inputs = observe(graph, IMAGES, seed=0)
    rounder, quantizer = GptqRounder(graph, inputs), TfliteQuantizer(graph)
    for errors in mean_errors(graph, quantizer.dynamic(rounder), inputs).values():
        np.testing.assert_allclose(errors, 0, atol=2e-7)
    found = calibrated(graph, IMAGES)
    shift = {"first": float(-np.rint(127.5 - 1e-6) / 127.5 + 1)}
    for errors in mean_errors(graph, quantizer.int8(found, rounder), inputs, shift).values():
        np.testing.assert_allclose(errors, 0, atol=1e-3 / 4)


def test_weights_of_two_layers_stay_rounded_to_nearest():
    graph = twice("w1", "b1")
    rounder, quantizer = GptqRounder(graph, observe(graph, IMAGES, seed=0)), TfliteQuantizer(graph)
    assert quantizer.dynamic(rounder) == quantizer.dynamic(None)


def test_a_rounder_gives_the_same_model_again(graph, inputs, found, quantizer, rounder):
    first = quantizer.int8(found, rounder)
    quantizer.dynamic(rounder)  # other scales must not get into the way
    quantizer.int8(found, rounder, per_tensor=True)
    assert quantizer.int8(found, rounder) == first == quantizer.int8(found, GptqRounder(graph, inputs))
