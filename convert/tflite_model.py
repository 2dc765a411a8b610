"""Read and write the TFLite FlatBuffer as objects, with bounds for untrusted files."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np

from edge_runtime.errors import IntegrityError, ModelError

MAX_MODEL_BYTES = 1 << 30
_IDENTIFIER = b"TFL3"
# A table of a few bytes may be named from many places, so that without a limit a small file unpacks into more objects
# than the memory holds. A classifier has some thousands.
_MAX_PARTS = 500_000
# What a flatbuffer that points anywhere makes the generated reader raise.
_DAMAGE = (struct.error, IndexError, ValueError, TypeError, OverflowError, MemoryError, AttributeError)


def unpack_model(data: bytes) -> Any:
    """A ``ModelT`` object tree of a ``.tflite`` file's bytes, which are trusted; `read_model` is for other files."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(bytearray(data), 0)
    for buffer in model.buffers or []:
        # A writer may lay a buffer's bytes after the FlatBuffer (offset 0 and 1 mean that it did not); runtimes before
        # TensorFlow 2.15 cannot read that, so it is brought inside here.
        if buffer.offset and buffer.offset > 1:
            buffer.data = np.frombuffer(data, np.uint8, int(buffer.size), int(buffer.offset))
            buffer.offset = buffer.size = 0
    return model


def pack_model(model: Any) -> bytes:
    """The bytes of a ``.tflite`` file for a ``ModelT`` object tree."""
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), _IDENTIFIER)
    return bytes(builder.Output())


def read_model(path: Path) -> Any:
    """A ``ModelT`` object tree of any file; a zip after the FlatBuffer (TFLite Metadata) is left aside.

    Every list is present, every tensor, buffer and operator code that an operator or graph names exists, and names are
    text.

    Raises:
        ModelError: There is no such file, or it is larger than `MAX_MODEL_BYTES`.
        IntegrityError: It is not a whole TFLite model.
    """
    try:
        size = path.stat().st_size
        if size > MAX_MODEL_BYTES:
            raise ModelError(f"{path}: expected at most {MAX_MODEL_BYTES >> 20} MiB, got {size >> 20} MiB")
        with path.open("rb") as file:
            data = file.read(MAX_MODEL_BYTES)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}); expected a .tflite file") from error
    if data[4:8] != _IDENTIFIER:
        raise IntegrityError(f"{path}: expected a TFLite model (identifier TFL3), got another kind of file")
    try:
        _check_counts(data)
        model = unpack_model(data)
        _complete(model)
    except _DAMAGE as error:
        reason = str(error) if isinstance(error, _DamageError) else "its structure points outside the file"
        raise IntegrityError(f"{path}: is a damaged TFLite model ({reason}); copy or export it again") from error
    return model


class _DamageError(ValueError):
    """A model whose parts do not fit together; the message says which."""


class _Budget:
    """Counts what unpacking would make, before it is made."""

    def __init__(self, file_bytes: int) -> None:
        self._parts, self._text_bytes = _MAX_PARTS, 2 * file_bytes + (1 << 20)

    def spend(self, parts: int, *text_bytes: int) -> None:
        """Take tables and list entries, and the lengths of texts, off what is left."""
        self._parts -= parts
        self._text_bytes -= sum(text_bytes)
        if self._parts < 0 or self._text_bytes < 0:
            raise _DamageError("it names more parts than a real model has")


def _check_counts(data: bytes) -> None:
    """Bound the objects and the text that unpacking copies; weights and scales unpack into views and cost nothing.

    Field numbers are positions in the schema's tables; deprecated fields count.
    """
    from ai_edge_litert import schema_py_generated as schema

    budget = _Budget(len(data))
    model = schema.Model.GetRootAs(data, 0)
    budget.spend(model.BuffersLength(), _text_length(model, 3))
    for count, part, text_field in (
        (model.OperatorCodesLength(), model.OperatorCodes, 1),
        (model.MetadataLength(), model.Metadata, 0),
        (model.ExternalBufferGroupsLength(), model.ExternalBufferGroups, 0),
        (model.ExternalBuffersLength(), model.ExternalBuffers, 4),
    ):
        _count_named(count, part, text_field, budget)
    for index in range(model.SignatureDefsLength()):
        signature = model.SignatureDefs(index)
        budget.spend(1, _text_length(signature, 2))
        _count_named(signature.InputsLength(), signature.Inputs, 0, budget)
        _count_named(signature.OutputsLength(), signature.Outputs, 0, budget)
    for index in range(model.SubgraphsLength()):
        _count_graph(model.Subgraphs(index), budget)


def _count_named(count: int, part: Callable[[int], Any], text_field: int, budget: _Budget) -> None:
    budget.spend(count)
    for index in range(count):
        budget.spend(0, _text_length(part(index), text_field))


def _count_graph(graph: Any, budget: _Budget) -> None:
    budget.spend(1 + graph.TensorsLength() + graph.OperatorsLength(), _text_length(graph, 4))
    budget.spend(graph.InputsLength() + graph.OutputsLength())
    for number in range(graph.TensorsLength()):
        tensor = graph.Tensors(number)
        sparsity = tensor.Sparsity()
        budget.spend(tensor.ShapeLength() + tensor.VariantTensorsLength(), _text_length(tensor, 3))
        budget.spend(sparsity.DimMetadataLength() if sparsity else 0)
    for number in range(graph.OperatorsLength()):
        operator = graph.Operators(number)
        budget.spend(operator.InputsLength() + operator.OutputsLength(), *_option_texts(operator))


def _option_texts(operator: Any) -> Iterator[int]:
    """Lengths of the texts in an operator's options; only three kinds of options have any."""
    from ai_edge_litert import schema_py_generated as schema

    fields: tuple[int, ...]
    if operator.BuiltinOptionsType() == schema.BuiltinOptions.VarHandleOptions:
        options, kind, fields = operator.BuiltinOptions(), schema.VarHandleOptions(), (0, 1)
    elif operator.BuiltinOptions2Type() == schema.BuiltinOptions2.StablehloCustomCallOptions:
        options, kind, fields = operator.BuiltinOptions2(), schema.StablehloCustomCallOptions(), (0, 2)
    elif operator.BuiltinOptions2Type() == schema.BuiltinOptions2.StableHLOCompositeOptions:
        options, kind, fields = operator.BuiltinOptions2(), schema.StableHLOCompositeOptions(), (0,)
    else:
        return
    if options is not None:
        kind.Init(options.Bytes, options.Pos)
        yield from (_text_length(kind, field) for field in fields)


def _text_length(table: Any, field: int) -> int:
    offset = table._tab.Offset(4 + 2 * field)
    return int(table._tab.VectorLen(offset)) if offset else 0


def _complete(model: Any) -> None:
    """Fill absent lists, decode names, and check what is named by number."""
    for name in ("operatorCodes", "subgraphs", "buffers", "metadata"):
        setattr(model, name, getattr(model, name) or [])
    if not model.subgraphs:
        raise _DamageError("it holds no graph")
    for code in model.operatorCodes:
        code.customCode = _text(code.customCode)
    for entry in model.metadata:
        entry.name = _text(entry.name)
        _check_index([entry.buffer], len(model.buffers), "buffer")
    for graph in model.subgraphs:
        _complete_graph(graph, model)


def _complete_graph(graph: Any, model: Any) -> None:
    for name in ("tensors", "operators"):
        setattr(graph, name, getattr(graph, name) or [])
    for name in ("inputs", "outputs"):
        setattr(graph, name, _numbers(getattr(graph, name)))
        _check_index(getattr(graph, name), len(graph.tensors), "tensor")
    graph.name = _text(graph.name)
    for tensor in graph.tensors:
        tensor.name, tensor.shape = _text(tensor.name) or "", _numbers(tensor.shape)
        # Buffer 0 means no data, also where no buffer is listed.
        _check_index([tensor.buffer], max(1, len(model.buffers)), "buffer")
        if any(side < 0 for side in tensor.shape):
            raise _DamageError("a tensor has a negative side")
    for operator in graph.operators:
        operator.inputs, operator.outputs = _numbers(operator.inputs), _numbers(operator.outputs)
        _check_index([operator.opcodeIndex], len(model.operatorCodes), "operator code")
        # -1 is an optional input that is not given.
        _check_index([index for index in operator.inputs if index != -1], len(graph.tensors), "tensor")
        _check_index(operator.outputs, len(graph.tensors), "tensor")


def _numbers(values: Any) -> list[int]:
    return [] if values is None else [int(value) for value in values]


def _text(value: bytes | str | None) -> str | None:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _check_index(indices: list[int], count: int, what: str) -> None:
    wrong = next((index for index in indices if not 0 <= index < count), None)
    if wrong is not None:
        raise _DamageError(f"it names {what} {wrong} of {count}")
