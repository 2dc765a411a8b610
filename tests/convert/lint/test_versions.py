"""Reading of hostile model files, and which runtime has the operators of a model."""

import base64
import importlib.metadata
import json
import struct
import sys
import zipfile

import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given, settings
from hypothesis import strategies as st

from convert.tflite_model import minimum_runtime, pack_model, read_model, read_operators, unsupported
from edge_runtime.errors import IntegrityError, ModelError, UsageError
from edge_runtime.tflite import validation
from edge_runtime.tflite.version_table import BUNDLED_CUSTOM, LITERT_LACKS, LITERT_NEWEST, RELEASES
from edge_runtime.tflite.versions import has_builtin, parse_target
from support.paths import CHECKOUT
from support.programs import run
from support.tflite_models import Operator, Tensor, build_model

BUILTINS = {name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int) and name != "CUSTOM"}
EVERY = {(name, version) for name in BUILTINS for version in range(1, 17)}


def model_of(*operators, **arguments):
    return schema.ModelT.InitFromPackedBuf(bytearray(build_model((), operators, **arguments)), 0)


SMALL = build_model(
    [
        Tensor("image", (1, 4, 4, 3), "uint8"),
        Tensor("axes", (2,), "int32", None, struct.pack("<2i", 1, 2)),
        Tensor("probabilities", (1, 3), "uint8"),
    ],
    [Operator("MEAN", ["image", "axes"], ["probabilities"], 2, {"kind": "ReducerOptions", "keepDims": False})],
    metadata={"min_runtime_version": b"1.5.0\0"},
)


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.tflite"
    path.write_bytes(SMALL)
    return path


def test_a_whole_file_is_read_as_it_is(small):
    model = read_model(small)
    (operator,) = read_operators(model)
    assert (operator.name, operator.version, operator.index, operator.graph) == ("MEAN", 2, 0, 0)
    assert [tensor.name for _, tensor in operator.inputs] == ["image", "axes"]
    assert operator.input(1).integers == (1, 2)
    assert operator.input(1).is_constant
    assert not operator.input(0).is_constant
    assert operator.outputs[0][1].shape == (1, 3)


def test_a_zip_after_the_model_is_left_aside(small):
    with zipfile.ZipFile(small, "a") as archive:
        archive.writestr("labels.txt", "a\nb\n")
    assert read_operators(read_model(small))[0].name == "MEAN"


@pytest.mark.parametrize("size", range(0, len(SMALL), 7))
def test_a_truncated_file_is_one_sentence(size, small):
    small.write_bytes(SMALL[:size])
    with pytest.raises(ModelError, match=r"^[^\n]+$"):
        read_model(small)


@settings(max_examples=400)
@given(st.lists(st.tuples(st.integers(8, len(SMALL) - 1), st.integers(0, 255)), min_size=1, max_size=8))
def test_flipped_bytes_are_read_or_refused(small, changes):
    data = bytearray(SMALL)
    for position, value in changes:
        data[position] = value
    small.write_bytes(data)
    try:
        model = read_model(small)
        read_operators(model)
        assert minimum_runtime(model)
        unsupported(model, parse_target("tflite-runtime"))
    except ModelError:
        pass


def test_other_files_are_refused(tmp_path, monkeypatch):
    with pytest.raises(ModelError, match="cannot be read"):
        read_model(tmp_path / "missing.tflite")
    with pytest.raises(ModelError, match="cannot be read"):
        read_model(tmp_path)
    other = tmp_path / "other.tflite"
    for content in (b"", b"TFL3", b"\x89PNG\r\n\x1a\n" * 10):
        other.write_bytes(content)
        with pytest.raises(IntegrityError, match="TFL3"):
            read_model(other)
    monkeypatch.setattr(validation, "MAX_MODEL_BYTES", 100)
    other.write_bytes(SMALL)
    with pytest.raises(ModelError, match="at most"):
        read_model(other)


def test_a_model_without_a_graph_is_refused(small):
    model = schema.ModelT()
    model.version, model.subgraphs, model.operatorCodes, model.buffers = 3, [], [], []
    small.write_bytes(pack_model(model))
    with pytest.raises(IntegrityError, match="no graph"):
        read_model(small)


@pytest.mark.parametrize(("attribute", "value"), [("inputs", [0, 9]), ("outputs", [-1]), ("opcodeIndex", 4)])
def test_an_operator_that_names_what_is_not_there_is_refused(attribute, value, small):
    model = schema.ModelT.InitFromPackedBuf(bytearray(SMALL), 0)
    setattr(model.subgraphs[0].operators[0], attribute, value)
    small.write_bytes(pack_model(model))
    with pytest.raises(IntegrityError, match="names"):
        read_model(small)


PROBE = """
import base64, json, sys
if sys.argv[1] == "litert":
    from ai_edge_litert.interpreter import Interpreter
else:
    from tflite_runtime.interpreter import Interpreter
refused = []
for line in open(sys.argv[2]):
    name, version, data = line.split()
    try:
        Interpreter(model_content=base64.b64decode(data))
    except Exception as error:
        # LSTM complains of its options, which it does only where its version is known.
        if "Didn't find op" in str(error) or "out of range" in str(error):
            refused.append([name, int(version)])
print(json.dumps(refused))
"""


@pytest.fixture(scope="module")
def single_operator_models(tmp_path_factory):
    path = tmp_path_factory.mktemp("probe") / "models.txt"
    with path.open("w") as file:
        for name, version in sorted(EVERY):
            data = base64.b64encode(build_model((), [Operator(name, version=version)])).decode()
            file.write(f"{name} {version} {data}\n")
    return path


def asked(python, runtime, models):
    done = run(python, "-c", PROBE, runtime, models)
    assert done.returncode == 0, done.stderr
    refused = {(name, version) for name, version in json.loads(done.stdout.splitlines()[-1])}
    return EVERY - refused


def in_table(target):
    return {(name, version) for name, version in EVERY if has_builtin(name, version, target)}


def test_litert_has_what_the_table_says(single_operator_models):
    found, expected = asked(sys.executable, "litert", single_operator_models), in_table(parse_target("litert"))
    assert expected <= found
    if importlib.metadata.version("ai-edge-litert") == "2.3.0":
        assert found == expected


def test_tflite_runtime_2_14_has_what_the_table_says(single_operator_models):
    python = CHECKOUT / ".venv-tflite" / "bin" / "python"
    if not python.exists():
        pytest.skip("no virtual environment with tflite-runtime (make test prepares .venv-tflite, Python up to 3.11)")
    assert asked(python, "tflite-runtime", single_operator_models) == in_table(parse_target("tflite-runtime==2.14"))


def test_the_tables_are_well_formed():
    assert set(RELEASES) <= BUILTINS
    assert set(LITERT_NEWEST) | LITERT_LACKS <= set(RELEASES)
    for name, text in RELEASES.items():
        releases = [tuple(map(int, release.split("."))) for release in text.split() if release != "-"]
        assert releases == sorted(releases), name
        assert min(releases) >= (1, 5)
        assert LITERT_NEWEST.get(name, 99) > len(releases)


@pytest.mark.parametrize(
    ("operators", "expected"),
    [
        ({}, "tflite 1.5.0"),
        ({"CONV_2D": 3, "FULLY_CONNECTED": 9}, "tflite 2.3.0"),
        ({"FULLY_CONNECTED": 12}, "tflite 2.17.0"),
        ({"ATAN2": 1, "GELU": 1, "IF": 1}, "tflite 2.10.0"),  # 2.10 is after 2.9, and both after 1.15
        ({"FULLY_CONNECTED": 14, "ADD": 1}, "litert 2.3.0"),
        ({"ADD": 99}, "unknown, newer than litert 2.3.0"),
        ({"edgetpu-custom-op": 1}, "tflite with edgetpu-custom-op, 1.5.0"),
        ({"TFLite_Detection_PostProcess": 1}, "tflite 1.5.0"),
    ],
    ids=str,
)
def test_the_lowest_runtime_is_that_of_the_newest_operator_not_of_the_metadata(operators, expected):
    stale = {"min_runtime_version": b"1.5.0\0"}
    model = model_of(*(Operator(name, version=version) for name, version in operators.items()), metadata=stale)
    assert minimum_runtime(model) == expected


def test_every_graph_counts():
    model = schema.ModelT.InitFromPackedBuf(bytearray(build_model((), [Operator("ADD"), Operator("WHILE")])), 0)
    second = schema.SubGraphT()
    second.tensors, second.operators = [], [model.subgraphs[0].operators.pop()]
    model.subgraphs.append(second)
    assert minimum_runtime(model) == "tflite 1.15.0"


def test_dynamic_range_dense_layers_do_not_open_in_tflite_runtime():
    model = model_of(Operator("CONV_2D", version=5), Operator("FULLY_CONNECTED", version=12))
    (missing,) = unsupported(model, parse_target("tflite-runtime"))
    assert (missing.index, missing.name, missing.version) == (1, "FULLY_CONNECTED", 12)
    assert missing.why == "tflite-runtime 2.14.0 has it up to version 10 only"
    assert "LiteRT" in missing.remedy
    assert "version 9" in missing.remedy
    assert unsupported(model, parse_target("litert")) == []
    assert unsupported(model_of(Operator("FULLY_CONNECTED", version=9)), parse_target("tflite-runtime")) == []


def test_an_older_release_lacks_more():
    model = model_of(Operator("CONV_2D", version=7), Operator("SIGN", version=2))
    assert unsupported(model, parse_target("tflite-runtime==2.14.0")) == []
    (missing,) = unsupported(model, parse_target("tflite-runtime==2.11"))
    assert missing.name == "SIGN"
    assert "2.12.0" in missing.remedy
    assert [m.name for m in unsupported(model, parse_target("tflite-runtime==2.10"))] == ["CONV_2D", "SIGN"]


@pytest.mark.parametrize(
    ("name", "words"),
    [("FlexErf", "Flex"), ("edgetpu-custom-op", "compiled for the Edge TPU"), ("MyOwn", "custom operator")],
)
@pytest.mark.parametrize("target", ["litert", "tflite-runtime==2.14"])
def test_custom_operators_are_unsupported(name, words, target):
    (missing,) = unsupported(model_of(Operator(name)), parse_target(target))
    assert words in missing.why
    assert missing.remedy


def test_custom_operators_that_the_runtimes_bring_are_supported():
    assert unsupported(model_of(*map(Operator, sorted(BUNDLED_CUSTOM))), parse_target("tflite-runtime")) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tflite-runtime==2.15", "no tflite-runtime==2.15"),
        ("tflite-runtime==two", "expected a release"),
        ("tflite-runtime==", "expected a release"),
        ("litert==1.0", "not known here"),
        ("tensorflow", "expected tflite-runtime or litert"),
        ("", "expected tflite-runtime or litert"),
    ],
)
def test_an_unknown_target_is_refused(text, words):
    with pytest.raises(UsageError, match=words):
        parse_target(text)


def test_targets_carry_a_full_release():
    assert str(parse_target("tflite-runtime==2.11")) == "tflite-runtime 2.11.0"
    assert str(parse_target("litert==2.4")) == "litert 2.4.0"


@pytest.mark.parametrize(
    ("name", "written", "true"),
    # The int8 file's metadata is from before it was quantized: it has version 3 of CONV_2D.
    [("pretrainedResnet.tflite", "1.5.0", "1.5.0"), ("pretrainedResnet_quant.tflite", "1.5.0", "1.14.0")],
)
def test_real_files_and_what_their_metadata_says(name, written, true, real_data):
    model = read_model(real_data("mlperf_tiny_ic") / name)
    entry = next(entry for entry in model.metadata if entry.name == "min_runtime_version")
    assert bytes(model.buffers[entry.buffer].data).rstrip(b"\0").decode() == written
    assert minimum_runtime(model) == f"tflite {true}"
