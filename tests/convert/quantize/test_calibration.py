"""Statistics of the float model: pixel scaling, layer inputs, ranges by each method."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import convert.quantize.calibration
import convert.quantize.gptq
from convert.options import CalibrationMethod
from convert.quantize.calibration import BINS, least_error_range, measure, moving_average, percentile_range
from convert.quantize.gptq import observe
from convert.quantize.graph import FloatGraph
from support.quantization import calibrated, tensor_values
from support.tflite_models import (
    CAST_OPTIONS,
    Operator,
    Tensor,
    build_chain,
    build_model,
    constants,
    convolution_options,
    floats,
)

HEIGHT, WIDTH = 7, 6
CAST = ("CAST", (1, HEIGHT, WIDTH, 3), CAST_OPTIONS)
SAME, VALID = 0, 1
RNG = np.random.default_rng(5)
IMAGES = RNG.integers(0, 256, (5, HEIGHT, WIDTH, 3), np.uint8)


def chain(*steps):
    return build_chain((1, HEIGHT, WIDTH, 3), steps, "pixels")


def scaling(name, *values, activation=0):
    options = {"kind": f"{name.title()}Options", "fusedActivationFunction": activation}
    return name, (1, HEIGHT, WIDTH, 3), options, np.array(values[0] if len(values) == 1 else values, np.float32)


@pytest.mark.parametrize(
    ("steps", "operators", "scale", "offset"),
    [
        ([CAST], 1, 1, 0),
        ([CAST, scaling("MUL", 1 / 255)], 2, 1 / 255, 0),
        ([CAST, scaling("MUL", 1 / 127.5), scaling("ADD", -1.0)], 3, 1 / 127.5, -1),
        ([CAST, scaling("SUB", 127.5)], 2, 1, -127.5),
        ([CAST, scaling("SUB", 127.5), scaling("MUL", 0.5)], 3, 0.5, -63.75),
        ([CAST, scaling("MUL", 0.5, 0.5, 0.5)], 2, 0.5, 0),
        ([CAST, scaling("MUL", 0.5), scaling("SUB", 1.0, 2.0, 3.0)], 2, 0.5, 0),
        ([CAST, scaling("ADD", 0.1, 0.2, 0.3), scaling("MUL", 0.5)], 1, 1, 0),
        ([CAST, scaling("ADD", -9.0, activation=1)], 1, 1, 0),
    ],
    ids=["cast", "mul", "mul-add", "sub", "sub-mul", "equal", "per-channel", "per-channel-first", "activation"],
)
def test_the_scaling_at_the_head_is_read(steps, operators, scale, offset):
    graph = FloatGraph(chain(*steps, ("RELU", (1, HEIGHT, WIDTH, 3), {})))
    pixels = graph.pixels()
    assert pixels.operators == operators
    assert (pixels.scale, pixels.offset) == (pytest.approx(scale), pytest.approx(offset))
    real = tensor_values(graph.data, pixels.tensor, IMAGES)
    np.testing.assert_allclose(real, pixels.scale * IMAGES.astype(np.float32) + pixels.offset, atol=1e-4)


ONE_BRANCH = [
    Operator("MUL", ["cast", "half"], ["halved"], 1, {"kind": "MulOptions"}),
    Operator("ADD", ["cast", "halved"], ["result"], 1, {"kind": "AddOptions"}),
]
INVERTED = [Operator("SUB", ["half", "cast"], ["result"], 1, {"kind": "SubOptions"})]


@pytest.mark.parametrize("operators", [ONE_BRANCH, INVERTED], ids=["seen by one branch", "constant on the left"])
def test_what_is_no_scaling_is_left_in_the_graph(operators):
    shape = (1, HEIGHT, WIDTH, 3)
    tensors = [Tensor("pixels", shape, "uint8", None), *constants({"half": np.float32(0.5)})]
    tensors += floats(dict.fromkeys(("cast", "halved", "result"), shape))
    cast = Operator("CAST", ["pixels"], ["cast"], 1, CAST_OPTIONS)
    pixels = FloatGraph(build_model(tensors, [cast, *operators])).pixels()
    assert (pixels.tensor, pixels.operators, pixels.scale, pixels.offset) == ("cast", 1, 1.0, 0.0)


def places_by_a_loop(value, kernel, layer):
    """[out rows, out columns, kernel rows, kernel columns, channels], by TensorFlow's published rule for padding."""
    counts, before = [], []
    for side, taps, stride, dilation in zip(value.shape[:2], kernel, layer["stride"], layer["dilation"], strict=True):
        span = (taps - 1) * dilation + 1
        counts.append(int(np.ceil((side if layer["padding"] == SAME else side - span + 1) / stride)))
        total = max((counts[-1] - 1) * stride + span - side, 0) if layer["padding"] == SAME else 0
        before.append(total // 2)
    places = np.zeros((*counts, *kernel, value.shape[2]))
    for i, j, a, b in itertools.product(*map(range, (*counts, *kernel))):
        row = i * layer["stride"][0] + a * layer["dilation"][0] - before[0]
        column = j * layer["stride"][1] + b * layer["dilation"][1] - before[1]
        if 0 <= row < value.shape[0] and 0 <= column < value.shape[1]:
            places[i, j, a, b] = value[row, column]
    return places


def layer_of(stride=(1, 1), dilation=(1, 1), padding=SAME):
    return {"stride": stride, "dilation": dilation, "padding": padding}


LAYERS = [
    *(layer_of(), layer_of(padding=VALID), layer_of(stride=(2, 2)), layer_of(stride=(3, 2), padding=VALID)),
    *(layer_of(dilation=(2, 1)), layer_of(dilation=(2, 2), padding=VALID)),
]


def options_of(kind, layer):
    names = ("padding", "strideH", "strideW", "dilationHFactor", "dilationWFactor")
    return {"kind": kind, **dict(zip(names, (layer["padding"], *layer["stride"], *layer["dilation"]), strict=True))}


def as_float(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def loop_over(images, kernel, layer):
    return np.stack([places_by_a_loop(image / 255.0, kernel, layer) for image in images])


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_a_convolution_sees_what_a_plain_loop_sees(layer):
    weights, bias = as_float(4, 3, 2, 3), as_float(4)
    places = loop_over(IMAGES, (3, 2), layer)
    rows, columns = places.shape[1:3]
    convolution = ("CONV_2D", (1, rows, columns, 4), options_of("Conv2DOptions", layer), weights, bias)
    graph = FloatGraph(chain(CAST, scaling("MUL", 1 / 255), convolution))
    expected = np.einsum("nijabc,oabc->nijo", places, weights) + bias
    np.testing.assert_allclose(tensor_values(graph.data, "2/conv_2d", IMAGES), expected, atol=1e-4)

    seen = observe(graph, IMAGES, seed=0)["2/conv_2d"]
    flat = places.reshape(-1, 3 * 2 * 3)
    assert seen.places == len(flat)
    np.testing.assert_allclose(seen.mean, flat.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(seen.covariance, np.cov(flat.T, bias=True), atol=1e-6)


@pytest.mark.parametrize("layer", LAYERS, ids=str)
@pytest.mark.parametrize("multiplier", [1, 2])
def test_a_depthwise_convolution_sees_one_channel_per_output(layer, multiplier):
    outputs = 3 * multiplier
    weights, bias = as_float(1, 3, 3, outputs), as_float(outputs)
    places = loop_over(IMAGES, (3, 3), layer)
    options = {**options_of("DepthwiseConv2DOptions", layer), "depthMultiplier": multiplier}
    step = ("DEPTHWISE_CONV_2D", (1, *places.shape[1:3], outputs), options, weights, bias)
    graph = FloatGraph(chain(CAST, scaling("MUL", 1 / 255), step))
    by_output = np.repeat(places, multiplier, axis=5)
    expected = np.einsum("nijabo,abo->nijo", by_output, weights[0]) + bias
    np.testing.assert_allclose(tensor_values(graph.data, "2/depthwise_conv_2d", IMAGES), expected, atol=1e-4)

    seen = observe(graph, IMAGES, seed=0)["2/depthwise_conv_2d"]
    taps = np.moveaxis(by_output.reshape(-1, 9, outputs), 2, 0)
    np.testing.assert_allclose(seen.mean, taps.mean(axis=1), atol=1e-6)
    np.testing.assert_allclose(seen.covariance, [np.cov(channel.T, bias=True) for channel in taps], atol=1e-6)


def dense_model(outputs=2):
    mean = ("MEAN", (1, 3), {"kind": "ReducerOptions", "keepDims": False}, np.array([1, 2], np.int32))
    weights = as_float(outputs, 3), as_float(outputs)
    return FloatGraph(chain(CAST, mean, ("FULLY_CONNECTED", (1, outputs), {"kind": "FullyConnectedOptions"}, *weights)))


def test_a_dense_layer_sees_one_place_a_image():
    # More images than are summed up at a time.
    images = RNG.integers(0, 256, (37, HEIGHT, WIDTH, 3), np.uint8)
    seen = observe(dense_model(), images, seed=0)["2/fully_connected"]
    rows = images.mean(axis=(1, 2))
    assert seen.places == 37
    np.testing.assert_allclose(seen.mean, rows.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(seen.covariance, np.cov(rows.T, bias=True), rtol=1e-4, atol=1e-3)


def large_convolution():
    step = ("CONV_2D", (1, HEIGHT, WIDTH, 2), convolution_options(), as_float(2, 3, 3, 3), as_float(2))
    return FloatGraph(chain(CAST, step))


def test_of_many_places_a_seeded_choice_is_looked_at(monkeypatch):
    monkeypatch.setattr(convert.quantize.gptq, "PLACES_PER_IMAGE", 10)
    first, again, other = (observe(large_convolution(), IMAGES, seed)["1/conv_2d"] for seed in (1, 1, 2))
    assert first.places == 10 * len(IMAGES)
    np.testing.assert_array_equal(first.total, again.total)
    assert np.any(first.total != other.total)


def test_a_layer_too_wide_for_a_covariance_still_has_a_mean(monkeypatch):
    monkeypatch.setattr(convert.quantize.gptq, "MAX_WIDTH", 26)
    seen = observe(large_convolution(), IMAGES, seed=0)["1/conv_2d"]
    assert seen.covariance is None
    assert seen.mean.shape == (27,)


@pytest.mark.parametrize("grey", [0, 77, 255])
def test_images_of_one_grey_give_a_covariance_that_can_be_inverted(grey):
    layer = layer_of(padding=VALID)
    first = ("CONV_2D", (1, 5, 4, 32), options_of("Conv2DOptions", layer), as_float(32, 3, 3, 3), as_float(32))
    second = ("CONV_2D", (1, 3, 2, 2), options_of("Conv2DOptions", layer), as_float(2, 3, 3, 32), as_float(2))
    seen = observe(FloatGraph(chain(CAST, first, second)), np.full_like(IMAGES, grey), seed=0)["2/conv_2d"]
    assert np.linalg.eigvalsh(seen.covariance).min() > 0


def shifted():
    return FloatGraph(chain(CAST, scaling("ADD", -100.0)))


def images_of(*pairs):
    """One image per pair, with these two grey levels."""
    images = np.empty((len(pairs), HEIGHT, WIDTH, 3), np.uint8)
    for image, (low, high) in zip(images, pairs, strict=True):
        image[:], image[0, 0] = low, high
    return images


def test_min_max_spans_all_images():
    found = calibrated(shifted(), images_of((40, 50), (90, 210), (120, 130)), CalibrationMethod.MIN_MAX)
    assert found == {"0/cast": (40, 210), "1/add": (-60, 110)}


def test_the_moving_average_begins_with_the_first_image_and_moves_by_a_hundredth():
    found = calibrated(shifted(), images_of((40, 50), (90, 250)), CalibrationMethod.MOVING_AVERAGE)
    assert found["1/add"] == pytest.approx((-60 + 0.01 * 50, -50 + 0.01 * 200))
    rows = np.array([[0.0], [1.0], [1.0]], np.float32)
    assert moving_average(rows) == pytest.approx([0.01 + 0.01 * 0.99])


def test_a_percentile_cuts_off_a_rare_value():
    images = np.full((200, HEIGHT, WIDTH, 3), 110, np.uint8)
    images[7, 3, 3, 1] = 255  # 1 of 25,200 values
    found = calibrated(shifted(), images, CalibrationMethod.PERCENTILE)
    low, high = found["1/add"]
    assert low == 0
    assert high == pytest.approx(10, abs=155 / BINS)


def test_least_error_gives_up_a_rare_value_for_many_that_are_small():
    images = RNG.integers(100, 110, (200, HEIGHT, WIDTH, 3)).astype(np.uint8)
    images[7, 3, 3, 1] = 120
    low, high = calibrated(shifted(), images, CalibrationMethod.MSE)["1/add"]
    assert low == 0
    assert 9 < high <= 20


@pytest.mark.parametrize("method", CalibrationMethod)
def test_images_in_parts_over_cores_give_the_same_as_in_one(method, monkeypatch):
    graph, images = dense_model(), RNG.integers(0, 256, (11, HEIGHT, WIDTH, 3), np.uint8)
    found = []
    for cores in (1, 3, 16):
        monkeypatch.setattr(convert.quantize.calibration, "core_count", lambda cores=cores: cores)
        found.append(calibrated(graph, images, method))
    assert found[0] == found[1] == found[2]


def test_measures_of_the_first_images_are_those_of_the_first_images():
    graph = dense_model()
    few, cut = measure(graph, IMAGES[:2]), measure(graph, IMAGES).first(2)
    np.testing.assert_array_equal(few.low, cut.low)
    np.testing.assert_array_equal(few.high, cut.high)


@pytest.mark.parametrize("method", [CalibrationMethod.PERCENTILE, CalibrationMethod.MSE])
def test_zero_is_in_a_cut_range_even_where_no_value_is_near_it(method):
    found = calibrated(shifted(), images_of((10, 20), (30, 40)), method)
    assert found["0/cast"][0] == 0
    assert 20 < found["0/cast"][1] <= 40
    assert found["1/add"][1] == 0
    assert -90 <= found["1/add"][0] < -60


def test_an_activation_that_is_always_zero_has_a_range():
    clipped = chain(CAST, scaling("ADD", -300.0), ("RELU", (1, HEIGHT, WIDTH, 3), {}))
    for method in CalibrationMethod:
        # Wide enough for 6 in its 16-bit steps to be an int32, which ReLU6 kernels insist on.
        low, high = calibrated(FloatGraph(clipped), IMAGES, method)["2/relu"]
        assert low == 0
        assert 6 / (high / 32767) < 2**31


histograms = st.dictionaries(st.integers(0, BINS - 1), st.integers(1, 10**6), min_size=1, max_size=12)
ends = st.tuples(st.floats(-1e3, 0), st.floats(0, 1e3)).filter(lambda pair: pair[1] - pair[0] > 1e-3)


def counts_of(histogram):
    counts = np.zeros(BINS, np.int64)
    counts[list(histogram)] = list(histogram.values())
    return counts


@given(histograms, ends)
def test_a_cut_range_holds_zero_and_lies_within_the_whole(histogram, pair):
    for cut in (percentile_range, least_error_range):
        low, high = cut(counts_of(histogram), *pair)
        slack = 1e-9 * (pair[1] - pair[0])
        assert pair[0] - slack <= low <= 0 <= high <= pair[1] + slack


@given(histograms, ends)
def test_a_percentile_cuts_off_no_more_than_it_says(histogram, pair):
    counts = counts_of(histogram)
    low, high = percentile_range(counts, *pair)
    step = (pair[1] - pair[0]) / BINS
    lower, upper = pair[0] + np.arange(BINS) * step, pair[0] + (np.arange(BINS) + 1) * step
    outside = counts[(upper <= low - step / 2) | (lower >= high + step / 2)].sum()
    assert outside <= counts.sum() * 1.0001e-4


def rounding_error(counts, pair, cut):
    centers = pair[0] + (np.arange(BINS) + 0.5) * (pair[1] - pair[0]) / BINS
    levels = np.linspace(*cut, 256)
    nearest = np.abs(np.clip(centers, *cut)[:, np.newaxis] - levels).argmin(axis=1)
    return float(np.sum(counts * (levels[nearest] - centers) ** 2))


@given(histograms, ends)
def test_the_least_error_is_not_above_that_of_the_whole_range(histogram, pair):
    counts = counts_of(histogram)
    whole = rounding_error(counts, pair, pair)
    assert rounding_error(counts, pair, least_error_range(counts, *pair)) <= whole * (1 + 1e-6) + 1e-9
