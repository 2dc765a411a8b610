"""The structural check of TFLite files accepts every real one and refuses what would make a runtime fail."""

import inspect
import re
import struct
import time

import flatbuffers
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given, settings
from hypothesis import strategies as st

from convert.tflite_model import pack_model, unpack_model
from edge_runtime.contract import TensorSpec
from edge_runtime.errors import IntegrityError, ModelError
from edge_runtime.testing import write_tiny_model
from edge_runtime.tflite import schema as facts
from edge_runtime.tflite.flatbuffer import DamageError
from edge_runtime.tflite.validation import MAX_MODEL_BYTES, OperatorCode, check_structure, read_structure


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("tiny") / "tiny.tflite", with_manifest=False).read_bytes()


def edited(data, edit):
    model = unpack_model(data)
    edit(model)
    return pack_model(model)


def test_it_tells_what_the_rest_needs(tiny):
    structure = check_structure(tiny)
    assert structure.codes == (OperatorCode("MEAN", 2, is_custom=False),)
    assert structure.inputs == (TensorSpec("image", "uint8", (1, 8, 8, 3), 1 / 256, 0),)
    assert structure.outputs == (TensorSpec("probabilities", "uint8", (1, 3), 1 / 256, 0),)
    assert not structure.is_for_edgetpu


def test_metadata_buffers_are_given(tiny):
    def add(model):
        model.buffers.append(schema.BufferT())
        model.buffers[-1].data = b"hello"
        model.metadata = [schema.MetadataT()]
        model.metadata[0].name, model.metadata[0].buffer = "greeting", len(model.buffers) - 1

    assert check_structure(edited(tiny, add)).metadata == {"greeting": b"hello"}


def test_real_models_pass(real_data):
    found = {path.name: read_structure(path) for path in sorted(real_data("coral").glob("*.tflite"))}
    assert [len(structure.codes) for structure in found.values()] == [31, 1, 68]
    assert [structure.is_for_edgetpu for structure in found.values()] == [False, True, False]
    for structure in found.values():
        assert structure.outputs[0].shape == (1, 1001)
        assert "TFLITE_METADATA" in structure.metadata
    for path in real_data("mlperf_tiny_ic").glob("*.tflite"):
        assert len(read_structure(path).codes) == 16


def set_shape(number, shape):
    return lambda model: setattr(model.subgraphs[0].tensors[number], "shape", shape)


def set_quantization(number, **fields):
    def edit(model):
        tensor = model.subgraphs[0].tensors[number]
        tensor.quantization = schema.QuantizationParametersT()
        for name, value in fields.items():
            setattr(tensor.quantization, name, value)

    return edit


def set_graph(**fields):
    return lambda model: [setattr(model.subgraphs[0], name, value) for name, value in fields.items()]


def set_operator(**fields):
    return lambda model: [setattr(model.subgraphs[0].operators[0], name, value) for name, value in fields.items()]


def add_signature(graph, tensor):
    def edit(model):
        entry, signature = schema.TensorMapT(), schema.SignatureDefT()
        entry.name, entry.tensorIndex = "image", tensor
        signature.inputs, signature.outputs, signature.subgraphIndex = [entry], [], graph
        model.signatureDefs = [signature]

    return edit


def add_outside_data(model):
    group = schema.ExternalBufferGroupT()
    group.name = "../../etc/passwd"
    model.externalBufferGroups = [group]


DAMAGE = {
    "version": (lambda model: setattr(model, "version", 4), "version is 4"),
    "no graph": (lambda model: setattr(model, "subgraphs", []), "no graph"),
    "negative side": (set_shape(0, [1, -8, 8, 3]), r"shape \[1, -8, 8, 3\]"),
    "huge tensor": (set_shape(0, [1, 1 << 20, 1 << 20, 3]), "would take 3145728 MiB"),
    "too many sides": (set_shape(0, [1] * 9), "9 sides"),
    "constant of another size": (set_shape(1, [3]), "needs 12 bytes and has 8"),
    "tensor of a graph": (set_graph(inputs=[7]), "tensor 7 of 3"),
    "absent output": (set_graph(outputs=[-1]), "tensor -1 of 3"),
    "constant input": (set_graph(inputs=[1]), "input of a graph is a constant"),
    "unwritten output": (set_graph(operators=[]), "no operator writes an output"),
    "operator code": (set_operator(opcodeIndex=3), "operator code 3 of 1"),
    "tensor of an operator": (set_operator(inputs=[0, 3]), "tensor 3 of 3"),
    "read before written": (set_operator(inputs=[2, 1]), "reads tensor 2, which nothing has written"),
    "written constant": (set_operator(outputs=[1]), "writes tensor 1, which is a constant"),
    "buffer": (lambda model: setattr(model.subgraphs[0].tensors[0], "buffer", 2), "buffer 2 of 2"),
    "scales": (set_quantization(0, scale=[0.5, 0.5], zeroPoint=[0, 0], quantizedDimension=3), "2 scales and 2 zero"),
    "zero points": (set_quantization(0, scale=[0.5] * 3, zeroPoint=[0] * 2, quantizedDimension=3), "3 scales and 2"),
    "quantized side": (set_quantization(0, scale=[0.5] * 3, zeroPoint=[0], quantizedDimension=4), "along its side 4"),
    "infinite scale": (set_quantization(0, scale=[float("inf")], zeroPoint=[0]), "no number"),
    "no scale": (set_quantization(0, scale=[float("nan")], zeroPoint=[0]), "no number"),
    "negative scale": (set_quantization(0, scale=[-1.0], zeroPoint=[0]), "negative"),
    "signature graph": (add_signature(1, 0), "graph 1 of 1"),
    "signature tensor": (add_signature(0, 3), "signature names a tensor"),
    "data elsewhere": (add_outside_data, "data in other files"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_parts_that_do_not_fit_together_are_refused(name, tiny, tmp_path):
    edit, words = DAMAGE[name]
    data = edited(tiny, edit)
    with pytest.raises(DamageError, match=words):
        check_structure(data)
    path = tmp_path / "model.tflite"
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match=r"^[^\n]*is not a whole TFLite model \([^\n]*; copy or export it again$"):
        read_structure(path)


@pytest.mark.parametrize("offset", [0, 10, 1 << 62])
def test_data_after_the_flatbuffer_is_bounded(offset, tiny):
    def move(model):
        model.buffers[1].data, model.buffers[1].offset, model.buffers[1].size = None, len(tiny) * 2 + offset, 8

    data = edited(tiny, move)
    whole = data + bytes(2 * len(tiny) + 8 - len(data))
    if offset:
        with pytest.raises(DamageError, match="a buffer has 8 bytes from byte"):
            check_structure(whole)
    else:
        assert check_structure(whole).codes[0].name == "MEAN"


def test_every_truncation_is_refused_and_a_tail_does_no_harm(tiny):
    for size in range(len(tiny)):
        with pytest.raises(DamageError):
            check_structure(tiny[:size])
    assert check_structure(tiny + bytes(99)) == check_structure(tiny)


@settings(max_examples=500)
@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=8))
def test_changed_bytes_are_refused_or_read_as_the_schema_reads_them(tiny, changes):
    data = bytearray(tiny)
    for position, value in changes:
        data[position % len(data)] = value
    try:
        structure = check_structure(bytes(data))
    except DamageError:
        return
    graph = schema.Model.GetRootAs(data, 0).Subgraphs(0)
    assert len(structure.inputs) == graph.InputsLength()
    for number, spec in enumerate(structure.inputs):
        tensor = graph.Tensors(graph.Inputs(number))
        assert spec.shape == tuple(tensor.Shape(side) for side in range(tensor.ShapeLength()))
        assert spec.name.encode() == (tensor.Name() or b"").decode(errors="replace").encode()


@given(st.binary(max_size=300))
def test_noise_is_refused(noise):
    with pytest.raises(DamageError):
        check_structure(noise)
    with pytest.raises(DamageError):
        check_structure(noise[:4] + b"TFL3" + noise[4:])


@pytest.mark.parametrize(("name_bytes", "tensors", "graphs"), [(1, 20_000, 20_000), (1 << 20, 1000, 1)])
def test_a_small_file_that_names_millions_of_parts_or_bytes_of_text_is_refused(name_bytes, tensors, graphs):
    builder = flatbuffers.Builder(1024)
    name = builder.CreateString("x" * name_bytes)
    schema.TensorStart(builder)
    schema.TensorAddName(builder, name)
    tensors = repeated(builder, schema.TensorEnd(builder), tensors)
    schema.SubGraphStart(builder)
    schema.SubGraphAddTensors(builder, tensors)
    graphs = repeated(builder, schema.SubGraphEnd(builder), graphs)
    schema.ModelStart(builder)
    schema.ModelAddVersion(builder, 3)
    schema.ModelAddSubgraphs(builder, graphs)
    builder.Finish(schema.ModelEnd(builder), b"TFL3")
    started_s = time.monotonic()
    with pytest.raises(DamageError, match="more parts"):
        check_structure(bytes(builder.Output()))
    assert time.monotonic() - started_s < 30  # not hours


def repeated(builder, table, count):
    builder.StartVector(4, count, 4)
    for _ in range(count):
        builder.PrependUOffsetTRelative(table)
    return builder.EndVector()


def test_other_files_are_one_sentence(tmp_path):
    for name, content in (("empty", b""), ("text", b"hello world"), ("zeros", bytes(4096))):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(IntegrityError, match="does not begin as a file of the kind TFL3"):
            read_structure(tmp_path / name)
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(ModelError, match="cannot be read"):
            read_structure(path)
    with (tmp_path / "large").open("wb") as file:
        file.truncate(MAX_MODEL_BYTES + 1)
    with pytest.raises(ModelError, match="expected at most 1024 MiB"):
        read_structure(tmp_path / "large")


# The facts of the schema, against the generated one

SCALAR_BYTES = {"Bool": 1, "Int8": 1, "Uint8": 1, "Int16": 2, "Uint16": 2, "Int32": 4, "Uint32": 4, "Float32": 4}
SCALAR_BYTES |= {"Int64": 8, "Uint64": 8, "Float64": 8}


@pytest.fixture(scope="module")
def sources():
    """The source of each class of the generated schema."""
    parts = re.split(r"^class (\w+)\(object\):$", inspect.getsource(schema), flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def layout_of(source):
    """The letters of `facts.BUILTIN_OPTIONS`, read from the source of a generated class."""
    fields, lists = {}, set()
    for method in re.split(r"\n    def ", source)[1:]:
        name, offset = method.partition("(")[0], re.search(r"_tab\.Offset\((\d+)\)", method)
        if not offset:
            continue
        field = (int(offset[1]) - 4) // 2
        if name.endswith("AsNumpy"):
            lists.add(field)
        elif not name.endswith(("IsNone", "Length")):
            kinds = re.findall(r"number_types\.(\w+)Flags, ", method)
            fields[field] = str(SCALAR_BYTES[kinds[0]]) if kinds else "s"
    letters = {"1": "B", "2": "H", "4": "I", "8": "Q"}
    last = max(fields, default=-1) + 1
    return (
        "".join((letters[fields[i]] if i in lists else fields[i]) if i in fields else "-" for i in range(last)) or "."
    )


@pytest.mark.parametrize(
    ("union", "layouts"), [("BuiltinOptions", facts.BUILTIN_OPTIONS), ("BuiltinOptions2", facts.BUILTIN_OPTIONS_2)]
)
def test_the_layouts_of_options_are_those_of_the_schema(union, layouts, sources):
    numbers = {value: name for name, value in vars(getattr(schema, union)).items() if isinstance(value, int) and value}
    assert {number: layout_of(sources[name]) for number, name in numbers.items()} == {
        number: layout for number, layout in enumerate(layouts) if number
    }


def test_the_names_are_those_of_the_schema():
    operators = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    assert dict(enumerate(facts.OPERATOR_NAMES)) == operators
    types = {value: name.lower() for name, value in vars(schema.TensorType).items() if isinstance(value, int)}
    assert {number: name for number, (name, _) in enumerate(facts.TENSOR_TYPES)} == types


def test_a_cut_list_of_options_is_refused(tiny):
    def add(model):
        operator = model.subgraphs[0].operators[0]
        operator.builtinOptionsType, operator.builtinOptions = 17, schema.ReshapeOptionsT()
        operator.builtinOptions.newShape = [1, 77_777_777]

    assert facts.BUILTIN_OPTIONS[17] == "I"
    data = edited(tiny, add)
    assert check_structure(data)
    at = data.index(struct.pack("<3i", 2, 1, 77_777_777))
    with pytest.raises(DamageError, match="has 4294967295 items"):
        check_structure(data[:at] + b"\xff" * 4 + data[at + 4 :])
