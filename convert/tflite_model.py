"""Read and write the TFLite FlatBuffer as objects; `edge_runtime.tflite` validates untrusted files first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np

from edge_runtime.tflite.validation import read_structure

_IDENTIFIER = b"TFL3"


def unpack_model(data: bytes) -> Any:
    """Unpack the trusted bytes of a ``.tflite`` file to a ``ModelT`` object tree; see `read_model` for other files."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(bytearray(data), 0)
    for buffer in model.buffers or []:
        # A buffer's bytes may lie after the FlatBuffer (unless its offset is 0 or 1); runtimes before TensorFlow 2.15
        # cannot read that, so they are moved inside.
        if buffer.offset and buffer.offset > 1:
            buffer.data = np.frombuffer(data, np.uint8, int(buffer.size), int(buffer.offset))
            buffer.offset = buffer.size = 0
    return model


def pack_model(model: Any) -> bytes:
    """Pack a ``ModelT`` object tree to the bytes of a ``.tflite`` file."""
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), _IDENTIFIER)
    return bytes(builder.Output())


def read_model(path: Path) -> Any:
    """Read any ``.tflite`` file to a ``ModelT`` object tree; a zip after the FlatBuffer (TFLite Metadata) is ignored.

    Every list is present, and names are text. `read_structure` checks that every tensor, buffer and operator code
    that an operator or graph names exists.

    Raises:
        ModelError: The file does not exist, or is larger than 1 GiB.
        IntegrityError: The file is not a complete TFLite model.
    """
    read_structure(path)
    model = unpack_model(path.read_bytes())
    for name in ("operatorCodes", "subgraphs", "buffers", "metadata"):
        setattr(model, name, getattr(model, name) or [])
    for code in model.operatorCodes:
        code.customCode = text(code.customCode)
    for entry in model.metadata:
        entry.name = text(entry.name)
    for graph in model.subgraphs:
        graph.tensors, graph.operators, graph.name = graph.tensors or [], graph.operators or [], text(graph.name)
        for tensor in graph.tensors:
            tensor.name, tensor.shape = text(tensor.name), _numbers(tensor.shape)
        for part in (graph, *graph.operators):
            part.inputs, part.outputs = _numbers(part.inputs), _numbers(part.outputs)
    return model


def text(value: bytes | str | None) -> str:
    """Decode a name; the FlatBuffer holds bytes, or None for a missing name."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value or ""


def operator_names() -> dict[int, str]:
    """Names of the builtin operators by code."""
    from ai_edge_litert import schema_py_generated as schema

    return {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}


def operator_name(model: Any, operator: Any) -> str:
    """Builtin name of an operator of a ``ModelT``."""
    return operator_names()[builtin_code(model.operatorCodes[operator.opcodeIndex])]


def builtin_code(entry: Any) -> int:
    """Builtin code of an ``OperatorCodeT``; codes under 127 may be in the deprecated field only."""
    return max(int(entry.builtinCode), int(entry.deprecatedBuiltinCode))


def _numbers(values: Any) -> list[int]:
    return [] if values is None else [int(value) for value in values]
