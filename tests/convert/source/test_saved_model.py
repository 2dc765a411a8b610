"""SavedModels, read without TensorFlow, and the wire format of protocol buffers that they are in."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convert.options import Loader
from convert.source.model_source import read_model
from convert.source.operators import CALCULATING, SAVING
from edge_runtime.errors import ModelError
from edge_runtime.model.protobuf import WireError, fields, integer, messages, text


def varint(value):
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value % (1 << 64))
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def entry(number, key, value):
    return field(number, field(1, key) + field(2, value))


def tensor(shape, dtype=1):
    sizes = b"".join(field(2, field(1, -1 if size is None else size)) for size in shape)
    return field(1, "x:0") + field(2, dtype) + field(3, sizes)


def function(name, *operators, calls=(), attributes=b""):
    nodes = [field(3, field(1, op) + field(2, op)) for op in operators]
    nodes += [field(3, field(2, "PartitionedCall") + entry(5, "f", field(10, field(1, name)))) for name in calls]
    return field(1, field(1, field(1, name)) + b"".join(nodes) + attributes)


def saved_model(functions=(), inputs=None, outputs=None, signature="serving_default", main=(), tf1=False, more=b""):
    inputs = {"image": tensor((None, 8, 8, 3))} if inputs is None else inputs
    outputs = {"answer": tensor((None, 3))} if outputs is None else outputs
    signature_def = b"".join(entry(1, key, value) for key, value in inputs.items())
    signature_def += b"".join(entry(2, key, value) for key, value in outputs.items())
    nodes = b"".join(field(1, field(2, op)) for op in main)
    objects = b"" if tf1 else field(7, entry(2, "serve", b""))
    graph = field(1, field(5, "2.15.0")) + field(2, nodes + field(2, b"".join(functions)))
    return field(1, 1) + field(2, graph + entry(5, signature, signature_def) + objects) + more


@pytest.fixture
def write_saved_model(tmp_path):
    def write(**parts):
        folder = tmp_path / "saved"
        folder.mkdir(exist_ok=True)
        (folder / "saved_model.pb").write_bytes(saved_model(**parts))
        return folder

    return write


SERVE = function("serve", "Conv2D", "Log", "ReadVariableOp", "DynamicStitch", "Softmax", calls=("inner",))
# Called by TensorFlow's optimizer in the place of another; a call whose name is in the second part of its attribute.
STAND_IN = function("other", "SaveV2", attributes=entry(5, "api_implements", field(2, "serve")))
PARTS = field(2, b"") + field(2, field(10, field(1, "__inference__traced_save_9")))
CALL = field(2, "PartitionedCall") + field(5, field(1, "f") + PARTS)
SPLIT = field(1, field(1, field(1, "serve")) + field(3, CALL))
SAVE = function("__inference__traced_save_9", "SaveV2", "ShardedFilename", "MergeV2Checkpoints")


def test_a_saved_model_is_read_without_tensorflow(write_saved_model, said):
    functions = (SERVE, function("inner", "MatMul"), SAVE)
    source = read_model(write_saved_model(functions=functions, main=("SaveV2", "RestoreV2")), said)
    assert (source.loader, source.manifest.model_name) == (Loader.SAVED_MODEL, "saved")
    assert source.manifest.input.shape_hwc == (8, 8, 3)
    assert "TensorFlow 2.15.0" in source.origin
    assert read_model(write_saved_model(signature="mine"), said).loader is Loader.SAVED_MODEL


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (
            {"functions": (SERVE, function("inner", "ReadFile"))},
            "its graph contains ReadFile, which is not on the list.*--unsafe, which lets code",
        ),
        ({"functions": (function("serve", "SaveV2"),)}, "its graph contains SaveV2"),
        ({"functions": (SERVE, function("inner", calls=("__inference__traced_save_9",)), SAVE)}, "contains MergeV2"),
        ({"functions": (function("serve", "helper"), function("helper", "WriteFile"))}, "its graph contains WriteFile"),
        ({"functions": (function("unused", "EagerPyFunc"),)}, "its graph contains EagerPyFunc"),
        ({"main": ("WriteFile",)}, "its graph contains WriteFile"),
        ({"functions": (function("serve", "TextLineDataset"),)}, "its graph contains TextLineDataset"),
        ({"functions": (function("serve", "PrintV2"),)}, "its graph contains PrintV2"),
        ({"tf1": True}, "SavedModel of TensorFlow 1.*--unsafe"),
        ({"functions": (STAND_IN, SERVE)}, "its graph contains SaveV2"),
        ({"functions": (SPLIT, SAVE)}, "its graph contains MergeV2Checkpoints, SaveV2, ShardedFilename"),
        ({"functions": (function("serve", "ReadFile"), function("ReadFile", "Add"))}, "its graph contains ReadFile"),
        ({"functions": (SAVE, function("serve", "Add"), function("serve", "SaveV2"))}, "its graph contains SaveV2"),
        ({"more": field(2, field(2, field(1, field(2, "WriteFile"))))}, "its graph contains WriteFile"),
        ({"more": field(2, b"")}, "SavedModel of TensorFlow 1"),
        *(
            ({"functions": (function("serve", "Add", op),)}, f"its graph contains {op}, which is not on the list")
            for op in (
                "CalibrationStatisticsSaver",
                "DumpTensor",
                "RecordInput",
                "DistributedSave",
                "RemoteCall",
                "XlaCustomCallV2",
                "XlaCallModule",
                "PrintV2",
                "LookupTableFindV2",
                "NeverHeardOf",
            )
        ),
    ],
)
def test_operators_that_do_more_than_calculate_are_refused(write_saved_model, said, parts, message):
    folder = write_saved_model(**parts)
    with pytest.raises(ModelError, match=message):
        read_model(folder, said)
    assert read_model(folder, replace(said, unsafe=True)).unsafe


# Their state is the model's own: variables, random numbers, lists in loops, calls.
OWN_STATE = {
    *("Assert", "Case", "CheckNumerics", "CheckNumericsV2", "CudnnRNN", "CudnnRNNV2", "CudnnRNNV3", "DeviceIndex"),
    *("DestroyResourceOp", "DisableCopyOnRead", "Empty", "GuaranteeConst", "If", "Multinomial", "ReadVariableOp"),
    *("RngReadAndSkip", "RngSkip", "StatelessRandomGetAlg", "StatefulPartitionedCall", "TruncatedNormal"),
    *("VarHandleOp", "VarIsInitializedOp", "VariableShape", "While"),
}
OWN_STATE_FAMILIES = re.compile(
    r"(Assign|Assign(Add|Sub))VariableOp|Resource(Gather|Scatter).*|TensorArray.*V3|Random.*|Parameterized.*"
    r"|SampleDistorted.*|Stateful(Standard|Truncated|Uniform).*"
)
REACHES_OUT = re.compile(
    r".*(File|Path|Reader|PyFunc|Dataset|Iterator|Summary|Rpc|Socket|Debug|Dump|Save|Restore|Checkpoint|Print|Infeed"
    r"|Outfeed|Send|Recv|Remote|Collective|Session|Table|Xla|TPU|Nccl|Queue|Stage|Calibration|RecordInput|Abort|Proto"
    r"|Py|TFRecord|LMDB|Sql|CSV|ImmutableConst|Vocab|Bundle|Barrier|Mutex).*"
)
DECODERS = {"ExtractJpegShape"}


@pytest.mark.slow
def test_no_listed_operator_reaches_files_the_network_or_python():
    import tensorflow as tf
    from tensorflow.python.framework import op_def_registry

    registry = {name: op_def_registry.get(name) for name in dir(tf.raw_ops) if not name.startswith("_")}
    assert set(registry) >= CALCULATING | SAVING
    assert not {name for name in registry if REACHES_OUT.fullmatch(name)} & CALCULATING
    for name in sorted(CALCULATING):
        definition = registry[name]
        assert not definition.is_stateful or name in OWN_STATE or OWN_STATE_FAMILIES.fullmatch(name), name
        texts = [argument.name for argument in definition.input_arg if argument.type == tf.string.as_datatype_enum]
        assert not texts or name.startswith("Decode") or name in DECODERS, (name, texts)
        named = {attribute.name for attribute in definition.attr}
        assert not named & {"filename", "file_path", "output_file_path", "address", "url", "token", "tensor_name"}, name


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"inputs": {"a": tensor((None, 8, 8, 3)), "b": tensor((None, 8))}}, "one input, got 2 inputs"),
        ({"outputs": {"a": tensor((None, 3)), "b": tensor((None, 4))}}, "one output, got 2 outputs"),
        ({"inputs": {"a": tensor((None,), dtype=7)}}, "expected an input of float32 or uint8 pixels, got .* number 7"),
        ({"outputs": {"a": tensor((None, 5))}}, "expects 5 labels, one per output, got 3"),
        ({"signature": "__saved_model_init_op"}, "expected a signature 'serving_default', got '__saved_model_init_op'"),
    ],
)
def test_a_signature_of_something_else_is_one_sentence(write_saved_model, said, parts, message):
    with pytest.raises(ModelError, match=message):
        read_model(write_saved_model(**parts), said)


def test_a_damaged_saved_model_is_one_sentence(write_saved_model, said):
    folder = write_saved_model(functions=(SERVE,))
    whole = (folder / "saved_model.pb").read_bytes()
    for content in (whole[: len(whole) // 2], b"\xff" * 40, b"", b"text\n"):
        (folder / "saved_model.pb").write_bytes(content)
        with pytest.raises(ModelError, match=r"is not a whole SavedModel|expected a SavedModel"):
            read_model(folder, said)


@given(numbers=st.lists(st.tuples(st.integers(1, 500), st.one_of(st.integers(-(2**63), 2**63 - 1), st.text()))))
def test_the_wire_format_is_read_as_it_is_written(numbers):
    message = memoryview(b"".join(field(number, value) for number, value in numbers))
    for number, value in dict(numbers).items():
        last = [other for key, other in numbers if key == number and type(other) is type(value)][-1]
        assert (integer if isinstance(last, int) else text)(message, number) == last
    assert len(list(fields(message))) == len(numbers)


@given(data=st.binary(max_size=200))
def test_any_bytes_end_or_are_a_wire_error(data):
    try:
        found = list(fields(memoryview(data)))
        list(messages(memoryview(data), 1, 2))
    except WireError:
        return
    assert len(found) <= len(data)
