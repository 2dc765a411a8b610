"""The forecast for the Edge TPU, and `edge-convert lint` as its user sees it."""

import json
import struct
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from convert.cli import lint as lint_command
from convert.lint.edgetpu import RULES, USUAL_WEIGHT_BYTES, find_problem, forecast, memory
from convert.lint.findings import lint
from convert.tflite_model import OperatorFacts, TensorFacts, read_model, read_operators
from edge_runtime.errors import GateError, IntegrityError, ModelError, UsageError
from edge_runtime.testing import write_tiny_model
from support.programs import run_code
from support.tflite_models import Operator, Tensor, build_model


def activation(*shape, dtype="int8", quantized=True):
    return TensorFacts("activation", shape, dtype, quantized)


def constant(*shape, dtype="int8", integers=None, zero=False):
    return TensorFacts("constant", shape, dtype, dtype == "int8", 4, integers, zero)


def axes(*values):
    return constant(len(values), dtype="int32", integers=values)


def operator(name, inputs, output=None, **options):
    outputs = ((99, output or inputs[0]),)
    return OperatorFacts(0, 0, name, 1, False, tuple(enumerate(inputs)), outputs, SimpleNamespace(**options))


IMAGE = activation(1, 8, 8, 16)
VECTOR = activation(1, 16)
WEIGHTS = (constant(16, 3, 3, 16), constant(16, dtype="int32"))

MAPPED = [
    operator("CONV_2D", [IMAGE, *WEIGHTS], dilationWFactor=2, dilationHFactor=2),
    operator("DEPTHWISE_CONV_2D", [IMAGE, *WEIGHTS], dilationWFactor=1, dilationHFactor=1),
    operator("FULLY_CONNECTED", [VECTOR, constant(16, 16)], weightsFormat=0),
    operator("ADD", [IMAGE, IMAGE], fusedActivationFunction=1),
    operator("AVERAGE_POOL_2D", [IMAGE], fusedActivationFunction=0),
    operator("MEAN", [IMAGE, axes(1, 2)], VECTOR),
    operator("MEAN", [IMAGE, axes(-1)]),
    operator("PAD", [IMAGE, axes(0, 0, 1, 1, 1, 1, 0, 0)]),
    operator("SOFTMAX", [activation(1, 16_000)]),
    operator("SPLIT", [axes(3), IMAGE]),
    operator("PRELU", [IMAGE, constant(1, 1, 16)]),
    operator("CONCATENATION", [IMAGE, IMAGE, IMAGE], fusedActivationFunction=0),
    operator("CONCATENATION", [IMAGE, constant(1, 8, 8, 16, zero=True)], fusedActivationFunction=0),
    operator("STRIDED_SLICE", [IMAGE, axes(0, 0), axes(4, 4), axes(1, 1)], ellipsisMask=0, newAxisMask=0),
    operator("RELU6", [activation(1, 1, 8, 8, 16, dtype="uint8")]),
    operator("QUANTIZE", [activation(1, 8, 8, 3, dtype="uint8")], activation(1, 8, 8, 3)),
    operator("RESHAPE", [IMAGE, axes(1, -1)], activation(1, 1024)),
]


@pytest.mark.parametrize("facts", MAPPED, ids=lambda facts: facts.name)
def test_what_the_documentation_supports_maps(facts):
    assert find_problem(facts) is None


UNMAPPED = [
    (operator("HARD_SWISH", [IMAGE]), "no such operator", "ReLU6"),
    (operator("LEAKY_RELU", [IMAGE]), "no such operator", "ReLU6"),
    (operator("CAST", [activation(1, 8, 8, 3, dtype="uint8")]), "no such operator", "int8 variant"),
    (operator("CUMSUM", [IMAGE]), "no such operator", "coral.ai"),
    (operator("ADD", [activation(1, 4, dtype="float32")]), "float32", "int8 variant"),
    (operator("ADD", [activation(1, 4, dtype="int16")]), "int16", "int8 variant"),
    (operator("ADD", [activation(1, 4, quantized=False)]), "no scale", "int8 variant"),
    (operator("QUANTIZE", [activation(1, 4, dtype="float32")], VECTOR), "takes or gives float32", "integer input"),
    (operator("ADD", [activation(1, -1, 8, 16)]), "open", "fixed"),
    (operator("ADD", [activation(2, 8, 8, 16)]), "more than 3 dimensions", "batch of 1"),
    (operator("RESHAPE", [IMAGE, activation(2, dtype="int32")]), "computed while", "fixed"),
    (operator("CONV_2D", [IMAGE, IMAGE]), "computed while", "constants"),
    (operator("CONV_2D", [IMAGE, *WEIGHTS], dilationWFactor=2), "dilation", "same dilation"),
    (operator("FULLY_CONNECTED", [VECTOR, constant(4, 4)], weightsFormat=1), "shuffled", "default"),
    (operator("FULLY_CONNECTED", [activation(8, 16), constant(4, 16)]), "more than one dimension", "1x1"),
    (operator("MAX_POOL_2D", [IMAGE], fusedActivationFunction=1), "fused", "before"),
    (operator("MEAN", [IMAGE, axes(0)]), "batch", "batch"),
    (operator("MEAN", [IMAGE, axes(-4)]), "batch", "batch"),
    (operator("MEAN", [activation(1, 8, 8, 6), axes(3)]), "6 channels", "multiple of 4"),
    (operator("PAD", [IMAGE, axes(1, 0, 0, 0, 0, 0, 0, 0)]), "pads the batch", "rows"),
    (operator("PACK", [IMAGE, IMAGE], axis=0), "batch", "another axis"),
    (operator("SPLIT", [axes(0), IMAGE]), "batch", "batch"),
    (operator("SOFTMAX", [activation(1, 16_001)]), "16001", "largest"),
    (operator("SOFTMAX", [activation(1, 8, 8, 4)]), "more than one dimension", "CPU"),
    (operator("PRELU", [IMAGE, constant(8, 8, 16)]), "alpha", "shared_axes"),
    (operator("CONCATENATION", [IMAGE, constant(1, 8, 8, 16)]), "other than zeros", "padding"),
    (operator("STRIDED_SLICE", [IMAGE, axes(0), axes(4), axes(2)]), "nth", "strides of 1"),
    (operator("STRIDED_SLICE", [IMAGE, axes(0), axes(4), axes(1)], newAxisMask=1), "new axis", "reshape"),
]


@pytest.mark.parametrize(("facts", "why", "remedy"), UNMAPPED, ids=lambda value: getattr(value, "name", None))
def test_what_it_does_not_support_is_left_out_with_reason_and_remedy(facts, why, remedy):
    problem = find_problem(facts)
    assert why in problem.why
    assert remedy in problem.remedy


@pytest.mark.parametrize("name", sorted(RULES))
def test_an_operator_without_its_arguments_is_judged_all_the_same(name):
    find_problem(operator(name, [IMAGE]))
    find_problem(OperatorFacts(0, 0, name, 1, False, ((0, activation()),), ((1, activation()),)))


def chain(*names, first="int8", branch=None):
    found = []
    for index, name in enumerate(names):
        taken = activation(1, 4, 4, 8, dtype=first if index == 0 else "int8")
        inputs, outputs = ((0 if index == branch else index, taken),), ((index + 1, activation(1, 4, 4, 8)),)
        found.append(OperatorFacts(index, 0, name, 1, False, inputs, outputs))
    return tuple(found)


@pytest.mark.parametrize(
    ("operators", "places"),
    [
        (chain("RELU6", "ADD", "HARD_SWISH", "ADD", "ELU", "RELU6"), "EEcccc"),
        (chain("QUANTIZE", "RELU6", "ADD", "DEQUANTIZE", first="float32"), "cEEc"),
        (chain("HARD_SWISH", "HARD_SWISH", "RELU6"), "ccE"),
        (chain("RELU6", "HARD_SWISH", "RELU6", "ADD", branch=2), "EcEE"),
    ],
    ids=["behind an unmapped one", "behind a float start", "unmapped start", "a branch of its own"],
)
def test_operators_map_unless_they_depend_on_the_cpu_behind_the_edgetpu(operators, places):
    assert "".join("E" if found.finding.ok else "c" for found in forecast(operators)) == places


def test_what_follows_an_unmapped_operator_names_it():
    after, own = forecast(chain("RELU6", "ADD", "HARD_SWISH", "ADD", "ELU", "RELU6"))[3:5]
    assert (after.after, after.finding.remedy) == (2, "fix operator 2")
    assert own.after is None
    assert "no such operator" in own.finding.why


def test_graphs_inside_control_operators_do_not_map():
    inner = OperatorFacts(1, 1, "RELU6", 1, False, ((0, IMAGE),), ((1, IMAGE),))
    assert "control operator" in forecast((*chain("RELU6"), inner))[1].finding.why


def test_newer_operators_need_a_newer_edgetpu_runtime():
    dilated = operator("DEPTHWISE_CONV_2D", [IMAGE, *WEIGHTS], dilationWFactor=2, dilationHFactor=2)
    others = operator("TRANSPOSE", [IMAGE, axes(0, 2, 1, 3)]), operator("CONV_2D", [IMAGE, *WEIGHTS])
    assert [one.runtime for one in forecast((dilated, *others))] == [13, 14, 10]


def test_weights_that_do_not_fit_the_chip_are_streamed():
    for size, streamed in ((1 << 20, 0), (USUAL_WEIGHT_BYTES, 0), (USUAL_WEIGHT_BYTES + (1 << 20), 1 << 20)):
        weights = (1, TensorFacts("weights", (4, 4), "int8", True, size))
        ends = (((0, VECTOR), (2, VECTOR)), ((2, VECTOR), (3, VECTOR)))
        operators = tuple(
            OperatorFacts(index, 0, "FULLY_CONNECTED", 1, False, (source, weights), (target,))
            for index, (source, target) in enumerate(ends)
        )
        found = memory(operators, forecast(operators))
        assert (found.weight_bytes, found.streamed_bytes) == (size, streamed)
        assert ("every image" in found.text) == bool(streamed)


def test_the_forecast_fits_what_the_compiler_made_of_coral_mobilenet(real_data):
    before = lint(real_data("coral") / "mobilenet_v1_0.25_128_quant.tflite", "edgetpu")
    after_file = real_data("coral") / "mobilenet_v1_0.25_128_quant_edgetpu.tflite"
    left_to_cpu = [one for one in read_operators(read_model(after_file)) if one.name != "edgetpu-custom-op"]
    assert [one.operator for one in before.findings if not one.ok] == [one.name for one in left_to_cpu] == []
    assert before.passed
    assert before.verdict.startswith("all 31 operators should map")
    after = lint(after_file, "edgetpu")
    assert after.passed
    assert "compiled for the Edge TPU already: nothing was left to the CPU" in after.verdict


def test_real_int8_models_map_and_a_float_one_does_not(real_data):
    mobilenet = lint(real_data("coral") / "tf2_mobilenet_v2_1.0_224_ptq.tflite", "edgetpu")
    assert mobilenet.passed
    assert "runtime 13" in mobilenet.verdict
    assert mobilenet.sizes[0].startswith("weights 3.38 MiB")
    assert lint(real_data("mlperf_tiny_ic") / "pretrainedResnet_quant.tflite", "edgetpu").passed
    floating = lint(real_data("mlperf_tiny_ic") / "pretrainedResnet.tflite", "edgetpu")
    assert floating.share == 0
    assert {one.remedy for one in floating.findings} == {"convert the int8 variant first"}


def test_our_int8_variant_maps_and_our_float_one_says_what_to_do(small_bundle):
    report = lint(small_bundle / "colors-int8.tflite", "edgetpu")
    assert report.passed, report.verdict
    assert not lint(small_bundle / "colors-float32.tflite", "edgetpu").passed
    for target in ("litert", "tflite-runtime"):
        assert lint(small_bundle / "colors-int8.tflite", target).passed


def test_an_open_batch_is_what_the_file_gives_but_an_open_image_size_is_not(tmp_path):
    for signature, passed in (((-1, 4, 4, 8), True), ((1, -1, -1, 8), False)):
        tensors = [Tensor("in", (1, 4, 4, 8), signature=signature), Tensor("out", (1, 4, 4, 8), signature=signature)]
        path = tmp_path / "model.tflite"
        path.write_bytes(build_model(tensors, [Operator("RELU6", ["in"], ["out"])]))
        assert lint(path, "edgetpu").passed is passed


def test_a_model_without_operators_has_nothing_to_map(tmp_path):
    (tmp_path / "model.tflite").write_bytes(build_model([Tensor("in", (1, 4))]))
    report = lint(tmp_path / "model.tflite", "edgetpu")
    assert not report.passed
    assert "no operators" in report.verdict


@pytest.fixture
def mixed(tmp_path):
    """Two operators that map, one that does not, one behind it."""
    names = ("in", "a", "b", "c", "out")
    tensors = [Tensor(name, (1, 4, 4, 8)) for name in names]
    tensors.insert(1, Tensor("axes", (2,), "int32", None, struct.pack("<2i", 1, 2)))
    kinds = ("RELU6", "RELU6", "HARD_SWISH", "RELU6")
    operators = [Operator(kind, [names[i]], [names[i + 1]]) for i, kind in enumerate(kinds)]
    path = tmp_path / "mixed.tflite"
    path.write_bytes(build_model(tensors, operators))
    return path


def run(*arguments):
    return CliRunner().invoke(lint_command, [str(argument) for argument in arguments])


def test_a_model_that_fits_exits_with_0(tmp_path):
    model = write_tiny_model(tmp_path / "tiny.tflite")
    for target in ("edgetpu", "litert", "tflite-runtime", "tflite-runtime==2.11"):
        done = run(model, "--target", target)
        assert done.exit_code == 0, done.output
        assert "MEAN v2" in done.output
        assert "lowest runtime: tflite 1.14.0" in done.output


def test_a_model_that_does_not_fit_is_explained_and_exits_with_8(mixed):
    done = run(mixed, "--target", "edgetpu")
    assert isinstance(done.exception, GateError)
    assert done.exception.exit_code == 8
    lines = done.output.splitlines()
    table = [line.split(maxsplit=5) for line in lines if " v1" in line]
    assert [(row[0], row[2], row[3], row[4]) for row in table] == [
        ("HARD_SWISH", "1", "2", "NO"),
        ("RELU6", "1", "3", "NO"),
        ("RELU6", "2", "0", "yes"),
    ]
    header = next(line for line in lines if line.startswith("operator"))
    starts = {line.index("NO" if " NO " in line else "yes") for line in lines if " v1" in line}
    assert starts == {header.index("suits")}
    assert "2 of 4 operators (50%)" in lines[-1]
    assert "first is operator 2, HARD_SWISH" in lines[-1]


def test_json_has_every_operator(mixed):
    done = run(mixed, "--target", "edgetpu", "--json")
    assert done.exit_code == 1  # CliRunner's for any exception; the code is GateError's
    (report,) = json.loads(done.stdout)
    assert (report["target"], report["passed"], report["share"]) == ("edgetpu", False, 0.5)
    assert [one["ok"] for one in report["findings"]] == [True, True, False, False]
    assert report["findings"][2]["remedy"].endswith("use ReLU6")


def test_the_program_exits_with_8_and_one_sentence(mixed):
    code = "from convert.cli import lint; from edge_runtime.cli_support import run_cli; run_cli(lint)"
    done = run_code(code, mixed, "--target", "edgetpu", check=False)
    assert done.returncode == 8
    assert done.stderr.strip() == "error: mixed.tflite: not every operator suits edgetpu"
    assert "Traceback" not in done.stdout


def test_a_bundle_is_linted_file_by_file(tiny_bundle):
    every = ["tiny-float32.tflite", "tiny-int8.tflite"]
    for choice, expected in (([], every), (["--variant", "int8"], every[1:])):
        done = run(tiny_bundle, "--target", "litert", *choice, "--json")
        assert [report["file"].rpartition("/")[2] for report in json.loads(done.stdout)] == expected
    assert isinstance(run(tiny_bundle, "--target", "litert", "--variant", "edgetpu").exception, UsageError)


@pytest.mark.parametrize(
    ("name", "content", "error", "words"),
    [
        ("missing.tflite", None, ModelError, "no such file"),
        ("model.onnx", b"", ModelError, "ONNX"),
        ("noise.tflite", b"noise" * 100, IntegrityError, "TFL3"),
        ("photo.jpg", b"", ModelError, "expected a bundle"),
    ],
)
def test_bad_files_are_one_sentence(name, content, error, words, tmp_path):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    done = run(tmp_path / name, "--target", "litert")
    assert isinstance(done.exception, error)
    assert words in str(done.exception)


def test_an_unknown_target_is_refused_before_the_file_is_read(tmp_path):
    for target in ("toaster", "edgetpu==14", ""):
        done = run(tmp_path / "missing.tflite", "--target", target)
        assert isinstance(done.exception, UsageError)
    assert "edgetpu, tflite-runtime, litert" in str(done.exception)


def test_hostile_names_do_not_reach_the_terminal(tmp_path):
    path = tmp_path / "model.tflite"
    tensors = [Tensor("in", (1, 4)), Tensor("out", (1, 4))]
    path.write_bytes(build_model(tensors, [Operator("\x1b[2Jevil", ["in"], ["out"])]))
    for target in ("edgetpu", "litert"):
        done = run(path, "--target", target)
        assert "\x1b" not in done.output
        assert "\\x1b[2Jevil" in done.output
