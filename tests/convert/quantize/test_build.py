"""Every TFLite variant from one float32 model, as the quantizing process makes them."""

import itertools
import json

import numpy as np
import pytest

from convert.children import QUANTIZED_FILE, write_message
from convert.options import CalibrationMethod, Repair, Rounding
from convert.quantize.build import VariantBuilder
from convert.quantize.calibration import open_interpreter, probabilities
from convert.quantize.gptq import GptqRounder, observe
from convert.quantize.graph import FloatGraph
from convert.quantize.tflite import TfliteQuantizer
from convert.record import Step
from edge_runtime.contract import Variant
from support.programs import run_module
from support.quantization import calibrated, toned_images, write_job
from support.tflite_models import CAST_OPTIONS, RELU6, build_chain, convolution_options, operators_of, weight_tensors

# Large enough that rounding looks at a choice of places.
SIDE, LABELS = 20, 4
TFLITE = tuple(variant for variant in Variant if variant.suffix == ".tflite")
WHOLE = (Variant.INT8, Variant.INT8_PER_TENSOR, Variant.EDGETPU)


def classifier():
    rng = np.random.default_rng(0)

    def weight(*shape):
        return (rng.normal(size=shape) * np.sqrt(2 / np.prod(shape[1:]))).astype(np.float32)

    half, depthwise = SIDE // 2, convolution_options(1, RELU6, depthwise=True)
    steps = [
        ("CAST", (SIDE, SIDE, 3), CAST_OPTIONS),
        ("MUL", (SIDE, SIDE, 3), {"kind": "MulOptions"}, np.float32(1 / 127.5)),
        ("ADD", (SIDE, SIDE, 3), {"kind": "AddOptions"}, np.float32(-1)),
        ("CONV_2D", (half, half, 16), convolution_options(2, RELU6), weight(16, 3, 3, 3), weight(16) / 8),
        ("DEPTHWISE_CONV_2D", (half, half, 16), depthwise, 3 * weight(1, 3, 3, 16), weight(16) / 8),
        ("CONV_2D", (half // 2, half // 2, 80), convolution_options(2, RELU6), weight(80, 1, 1, 16), weight(80) / 8),
        ("MEAN", (80,), {"kind": "ReducerOptions", "keepDims": False}, np.array([1, 2], np.int32)),
        ("FULLY_CONNECTED", (LABELS,), {"kind": "FullyConnectedOptions"}, 6 * weight(LABELS, 80), weight(LABELS)),
        ("SOFTMAX", (LABELS,), {"kind": "SoftmaxOptions", "beta": 1.0}),
    ]
    one_image = [(name, (1, *shape), *rest) for name, shape, *rest in steps]
    return build_chain((1, SIDE, SIDE, 3), one_image)


DATA = classifier()
REPRESENTATIVE, CHECK = (toned_images(count, SIDE, np.random.default_rng(seed)) for count, seed in ((120, 0), (60, 1)))
EXACT = probabilities(DATA, CHECK)


def make_all(folder, variants=TFLITE, **choices):
    builder = VariantBuilder(write_job(folder, DATA, REPRESENTATIVE, CHECK, variants, **choices))
    made = {variant: builder.build(variant) for variant in variants}
    return made, {variant: (folder / variant.file_name("model")).read_bytes() for variant in variants}


def layers_of(data):
    for _, image, weights in weight_tensors(data):
        scale = weights.quantization.scale if weights.quantization is not None else None
        yield image.type, 0 if scale is None else len(scale)


@pytest.fixture(scope="module")
def all_made(tmp_path_factory):
    return make_all(tmp_path_factory.mktemp("workshop"))


@pytest.mark.parametrize("variant", TFLITE)
def test_each_variant_takes_pixels_and_answers_like_float32(variant, all_made):
    data = all_made[1][variant]
    interpreter = open_interpreter(data)
    (given,), (answer,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert (given["dtype"], given["shape"].tolist()) == (np.uint8, [1, SIDE, SIDE, 3])
    assert answer["dtype"] == (np.uint8 if variant in WHOLE else np.float32)
    assert answer["shape"].tolist() == [1, LABELS]
    found = probabilities(data, CHECK)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=3 / 256)
    limit = {Variant.FLOAT32: 0, Variant.FLOAT16: 0.001, Variant.DYNAMIC: 0.02, Variant.INT16X8: 0.01}
    assert np.ptp(EXACT) > 0.5
    assert np.abs(found - EXACT).max() <= limit.get(variant, 0.03)


FLOAT32, INT16, INT8 = 0, 7, 9


def test_each_variant_has_the_types_and_the_size_of_its_name(all_made):
    data = all_made[1]
    assert data[Variant.FLOAT32] == DATA
    expected = {Variant.INT8: INT8, Variant.INT8_PER_TENSOR: INT8, Variant.EDGETPU: INT8, Variant.INT16X8: INT16}
    for variant in TFLITE:
        assert {dtype for dtype, _ in layers_of(data[variant])} == {expected.get(variant, FLOAT32)}, variant
    assert {scales for _, scales in layers_of(data[Variant.INT8_PER_TENSOR])} == {1}
    assert min(scales for _, scales in layers_of(data[Variant.INT8])) > 1
    assert len(data[Variant.FLOAT16]) < len(DATA)
    assert len(data[Variant.INT8_PER_TENSOR]) < len(data[Variant.INT8]) < len(DATA)


def test_what_was_tried_is_told(all_made):
    made = all_made[0]
    for variant in (Variant.FLOAT32, Variant.FLOAT16, Variant.EDGETPU):
        assert made[variant].steps == ()
    for variant in (Variant.INT8, Variant.INT8_PER_TENSOR):
        nearest, calibrated = made[variant].steps
        assert "nearest" in nearest.description
        assert "calibration" in calibrated.description
        assert calibrated.bytes == len(all_made[1][variant])
    for variant in (Variant.DYNAMIC, Variant.INT16X8):
        assert made[variant].steps[-1].bytes == len(all_made[1][variant])
    assert all(item.notes == () for item in made.values())


@pytest.mark.parametrize("order", [TFLITE, TFLITE[::-1]], ids=["same", "reversed"])
def test_the_same_job_gives_the_same_bytes_in_any_order(all_made, tmp_path, order):
    again = make_all(tmp_path / "again", order)[1]
    for variant in TFLITE:
        assert again[variant] == all_made[1][variant], variant


def run_process(folder, variants, **choices):
    job = write_job(folder, DATA, REPRESENTATIVE, CHECK, variants, **choices)
    write_message(folder / "job.json", job)
    done = run_module("convert.quantize.child", folder / "job.json")
    assert done.returncode == 0, done.stderr
    return done.stdout.split(), json.loads((folder / QUANTIZED_FILE).read_text())


def test_the_process_makes_the_same_as_this_one(all_made, tmp_path):
    printed, quantized = run_process(tmp_path, (Variant.INT8, Variant.FLOAT16))
    assert printed == ["int8", "float16"]
    assert (tmp_path / "model-int8.tflite").read_bytes() == all_made[1][Variant.INT8]
    assert [made["variant"] for made in quantized["made"]] == ["int8", "float16"]
    assert [point["images"] for point in quantized["points"]] == [8, 32, 120]


def test_nearest_rounding_is_one_step(all_made, tmp_path):
    made, data = make_all(tmp_path, (Variant.INT8,), rounding=Rounding.NEAREST)
    assert [step.description for step in made[Variant.INT8].steps] == ["weights rounded to nearest"]
    assert data[Variant.INT8] != all_made[1][Variant.INT8]


def test_operators_at_the_head_stay_in_float32_as_asked(tmp_path):
    made, data = make_all(tmp_path, (Variant.INT8, Variant.EDGETPU, Variant.DYNAMIC), float_first=2)
    types = [dtype for dtype, _ in layers_of(data[Variant.INT8])]
    assert types == [FLOAT32, FLOAT32, INT8, INT8]
    assert "first 2 operators" in made[Variant.INT8].notes[0]
    assert made[Variant.DYNAMIC].notes == ()
    assert open_interpreter(data[Variant.INT8]).get_input_details()[0]["dtype"] == np.uint8
    assert np.abs(probabilities(data[Variant.INT8], CHECK) - EXACT).max() < 0.03


def test_an_old_runtime_gets_a_dense_layer_that_it_knows(all_made, tmp_path):
    new, old = all_made[1][Variant.DYNAMIC], make_all(tmp_path, (Variant.DYNAMIC,), old_runtime=True)[1]
    assert dict(operators_of(new))["FULLY_CONNECTED"] == 12
    assert dict(operators_of(old[Variant.DYNAMIC]))["FULLY_CONNECTED"] <= 9


@pytest.mark.parametrize("method", CalibrationMethod)
def test_every_method_of_calibration_gives_a_model_that_answers(method, tmp_path):
    _, data = make_all(tmp_path, (Variant.INT8,), method=method)
    agreement = (probabilities(data[Variant.INT8], CHECK).argmax(axis=1) == EXACT.argmax(axis=1)).mean()
    # A moving average over a few images is hardly more than the range of the first.
    assert agreement > (0.6 if method is CalibrationMethod.MOVING_AVERAGE else 0.9)


def test_int8_by_number_of_images_ends_with_all_of_them(tmp_path):
    builder = VariantBuilder(write_job(tmp_path, DATA, REPRESENTATIVE, CHECK, (Variant.INT8,)))
    points = builder.points()
    assert [point.images for point in points] == [8, 32, 120]
    last = builder.build(Variant.INT8).steps[-1]
    assert (points[-1].accuracy, points[-1].agreement) == (last.accuracy, last.agreement)


@pytest.mark.parametrize(("variants", "asked"), [((Variant.DYNAMIC,), True), ((Variant.INT8,), False)])
def test_no_points_where_they_are_not_asked_for(variants, asked, tmp_path):
    _, quantized = run_process(tmp_path, variants, points=asked)
    assert quantized["points"] == []
    assert [made["variant"] for made in quantized["made"]] == [variant.value for variant in variants]


def test_a_model_that_fails_and_may_not_be_repaired_is_written_as_it_is(tmp_path, monkeypatch, all_made):
    job = write_job(tmp_path, DATA, REPRESENTATIVE, CHECK, (Variant.INT8,), repair=Repair.OFF)
    counter = itertools.count()

    def failing(_self, data, description):
        next(counter)
        return Step(description, 0.1, 0.1, len(data), 1.0, False)

    monkeypatch.setattr("convert.quantize.build.AccuracyGate.step", failing)
    made = VariantBuilder(job).build(Variant.INT8)
    assert next(counter) == len(made.steps) == 2
    assert (tmp_path / "model-int8.tflite").read_bytes() == all_made[1][Variant.INT8]


def test_a_model_from_the_converter_is_quantized(small_bundle):
    graph = FloatGraph((small_bundle / "colors-float32.tflite").read_bytes())
    _, height, width, _ = open_interpreter(graph.data).get_input_details()[0]["shape"]
    images = np.random.default_rng(2).integers(0, 256, (24, height, width, 3), np.uint8)
    rounder, quantizer = GptqRounder(graph, observe(graph, images, seed=0)), TfliteQuantizer(graph)
    found, exact = calibrated(graph, images), probabilities(graph.data, images)
    for data in (quantizer.int8(found, rounder), quantizer.int16x8(found, rounder), quantizer.dynamic(rounder)):
        np.testing.assert_allclose(probabilities(data, images), exact, atol=0.1)
