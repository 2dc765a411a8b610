"""The search for the fewest operators that must stay in float32: with made-up models, and with one that is hostile."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

import convert.quantize.build
from convert.options import Repair
from convert.quantize.build import VariantBuilder, rank, repair, short_name
from convert.quantize.calibration import open_interpreter, probabilities
from convert.quantize.graph import FloatGraph
from convert.record import Step
from edge_runtime.contract import Variant
from support.quantization import write_job
from support.tflite_models import (
    CAST_OPTIONS,
    RELU6,
    Operator,
    Tensor,
    build_chain,
    build_model,
    convolution_options,
    floats,
    weight_tensors,
)

IMAGES = np.zeros((4, 2, 2, 3), np.uint8)
NAMES = [f"op{number:02d}" for number in range(16)]


def row_of_operators():
    tensors = [Tensor("pixels", (1, 2, 2, 3), "uint8", None)]
    tensors += floats(dict.fromkeys(("cast", *NAMES), (1, 2, 2, 3)))
    operators = [Operator("CAST", ["pixels"], ["cast"], 1, CAST_OPTIONS)]
    operators += [Operator("RELU", [before], [name]) for before, name in zip(["cast", *NAMES], NAMES, strict=False)]
    return FloatGraph(build_model(tensors, operators))


class MadeUp:
    """Models that are the list of their float32 operators; each other operator does its harm to the answers."""

    def __init__(self, harm, guilty, seconds_each=0.0):
        self.graph = row_of_operators()
        self.harm, self.guilty, self.seconds_each = harm, guilty, seconds_each
        self.now = 0.0
        self.built = []

    def build(self, kept):
        self.built.append(sorted(kept))
        self.now += self.seconds_each
        return json.dumps(sorted(kept)).encode()

    def probabilities(self, data, images):
        kept = NAMES if data == self.graph.data else json.loads(data)
        return np.full((len(images), 2), sum(self.harm.get(name, 0.001) for name in NAMES if name not in kept))

    def step(self, data, description):
        passed = set(self.guilty) <= set(json.loads(data))
        return Step(description, 0.5, 0.5, len(data), 1.0, passed)

    def repair(self, seconds=1e9, **choices):
        return repair(self.graph, self.build, self, IMAGES, seconds, **choices)


@pytest.fixture
def made_up(monkeypatch):
    def make(*arguments, **choices):
        fake = MadeUp(*arguments, **choices)
        monkeypatch.setattr(convert.quantize.build, "probabilities", fake.probabilities)
        monkeypatch.setattr(convert.quantize.build, "time", SimpleNamespace(monotonic=lambda: fake.now))
        return fake

    return make


def falling(*names):
    return {name: 1.0 - 0.05 * place for place, name in enumerate(names)}


def test_operators_are_ranked_by_the_harm_that_each_does_alone(made_up):
    fake = made_up(falling("op07", "op03", "op11"), ())
    ranked = rank(fake.graph, fake.build, IMAGES, deadline=1.0)
    assert ranked[:3] == ["op07", "op03", "op11"]
    assert sorted(ranked) == NAMES  # the cast is not among them
    # Each model had one operator in integers.
    assert [sorted(set(NAMES) - set(kept)) for kept in fake.built] == [[name] for name in NAMES]


def test_the_guilty_operator_is_found(made_up):
    repaired = made_up(falling("op05"), ["op05"]).repair()
    assert [*repaired.kept] == json.loads(repaired.data) == ["op05"]
    assert [(step.description, step.passed) for step in repaired.steps] == [("1 operator in float32: op05", True)]


def test_one_that_is_not_needed_is_taken_back(made_up):
    repaired = made_up(falling("op05", "op02", "op09"), ["op05", "op09"]).repair()
    assert sorted(repaired.kept) == json.loads(repaired.data) == ["op05", "op09"]
    assert [(step.description, step.passed) for step in repaired.steps] == [
        ("1 operator in float32: op05", False),
        ("2 operators in float32: op05, op02", False),
        ("3 operators in float32: op05, op02, op09", True),
        ("2 operators in float32: op05, op09", True),
    ]


def test_the_last_is_taken_back_too_where_counts_jumped(made_up):
    repaired = made_up(falling(*NAMES[:6]), ["op04"]).repair()
    assert [*repaired.kept] == json.loads(repaired.data) == ["op04"]


def test_nothing_comes_of_a_search_that_finds_nothing(made_up):
    repaired = made_up({}, ["no such operator"]).repair()
    assert (repaired.data, repaired.kept) == (None, ())
    assert not any(step.passed for step in repaired.steps)
    sizes = [int(step.description.split()[0]) for step in repaired.steps]
    assert sizes == [1, 2, 3, 4, 6, 8]  # no more than half of them


def test_the_search_ends_in_time(made_up):
    fake = made_up(falling("op15"), ["op15"], seconds_each=1.0)
    repaired = fake.repair(seconds=4.5)
    # The worst one was not reached, so those that were go first.
    assert repaired.data is None
    assert len(repaired.steps) == 1
    assert fake.now <= 4.5 + 2


def test_what_has_passed_when_the_time_is_over_is_kept(made_up):
    fake = made_up(falling("op00", "op01", "op02"), ["op00", "op02"], seconds_each=1.0)
    repaired = fake.repair(seconds=16 + 2.5)
    assert sorted(repaired.kept) == json.loads(repaired.data) == ["op00", "op01", "op02"]


def test_operators_that_are_in_float32_anyway_stay_there(made_up):
    repaired = made_up(falling("op00", "op05"), ["op05"]).repair(kept=["op00"])
    assert repaired.kept == ("op00", "op05")
    assert [step.description for step in repaired.steps] == ["1 operator in float32: op05"]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("net_1/hidden_1/Relu;net_1/hidden_1/BiasAdd", "hidden_1"),
        ("net_1/out_1/Relu6;net_1/last_bn_1/batchnorm/add_1;net_1/last_1/convolution", "last_1"),
        ("dense", "dense"),
        ("BiasAdd", "BiasAdd"),
        ("x" * 99, "x" * 60),
    ],
)
def test_the_long_names_of_the_converter_are_shown_by_layer(name, shown):
    assert short_name(name) == shown


SIDE = 6


def hostile_model():
    """Three detectors of colours beside an output whose weights are 1000 times as large and stop at 6."""
    detectors = np.zeros((4, 1, 1, 3), np.float32)
    detectors[0] = 1000
    detectors[1:, 0, 0] = 4 * np.eye(3) - 1
    dense = np.concatenate([np.zeros((3, 1)), 8 * np.eye(3)], axis=1).astype(np.float32)
    none3, none4 = np.full(3, 0.01, np.float32), np.full(4, 0.01, np.float32)
    steps = [
        ("CAST", (1, SIDE, SIDE, 3), CAST_OPTIONS),
        ("MUL", (1, SIDE, SIDE, 3), {"kind": "MulOptions"}, np.float32(1 / 255)),
        ("CONV_2D", (1, SIDE, SIDE, 4), convolution_options(activation=RELU6), detectors, none4),
        ("MEAN", (1, 4), {"kind": "ReducerOptions", "keepDims": False}, np.array([1, 2], np.int32)),
        ("FULLY_CONNECTED", (1, 3), {"kind": "FullyConnectedOptions"}, dense, none3),
        ("SOFTMAX", (1, 3), {"kind": "SoftmaxOptions", "beta": 1.0}),
    ]
    return build_chain((1, SIDE, SIDE, 3), steps)


def weight_types(data):
    return {name: {0: "float32", 9: "int8"}[weights.type] for name, _, weights in weight_tensors(data)}


def colored(count, seed):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 100, (count, SIDE, SIDE, 3), np.uint8)
    truth = np.arange(count) % 3
    for image, label in zip(images, truth, strict=True):
        image[..., label] += 100
    return images, truth


@pytest.fixture
def workshop(tmp_path):
    def make(variant, **choices):
        images, truth = colored(30, seed=1)
        variants, figures = (Variant.INT8, Variant.INT8_PER_TENSOR), {"truth": truth, "max_drop_points": 1.0}
        job = write_job(tmp_path, hostile_model(), colored(24, seed=0)[0], images, variants, **figures, **choices)
        made = VariantBuilder(job).build(variant)
        return made, (tmp_path / variant.file_name("model")).read_bytes()

    return make


def test_a_layer_that_int8_cannot_hold_goes_back_to_float32(workshop):
    made, data = workshop(Variant.INT8_PER_TENSOR)
    nearest, calibrated, *rest = made.steps
    assert (nearest.passed, calibrated.passed) == (False, False)
    assert nearest.accuracy < 0.5
    assert [step.passed for step in rest] == [True]
    assert (rest[0].accuracy, rest[0].agreement) == (1.0, 1.0)
    assert "conv_2d" in rest[0].description
    assert any("float32" in note and "Edge TPU" in note for note in made.notes)
    assert rest[0].bytes == len(data)
    assert weight_types(data) == {"CONV_2D": "float32", "FULLY_CONNECTED": "int8"}
    images, truth = colored(30, seed=2)
    assert (probabilities(data, images).argmax(axis=1) == truth).all()
    assert open_interpreter(data).get_input_details()[0]["dtype"] == np.uint8


def test_without_repair_it_stays_as_it_is(workshop):
    made, data = workshop(Variant.INT8_PER_TENSOR, repair=Repair.OFF)
    assert [step.passed for step in made.steps] == [False, False]
    assert weight_types(data) == {"CONV_2D": "int8", "FULLY_CONNECTED": "int8"}


def test_a_search_without_time_tries_one_operator(workshop):
    made, _ = workshop(Variant.INT8_PER_TENSOR, repair_seconds=0.0)
    # Unranked, the first goes first, which is the hostile one here.
    assert [step.passed for step in made.steps] == [False, False, True]


def test_a_scale_per_output_needs_no_repair(workshop):
    made, data = workshop(Variant.INT8)
    assert (made.notes, len(made.steps), made.steps[-1].passed) == ((), 2, True)
    assert set(weight_types(data).values()) == {"int8"}
