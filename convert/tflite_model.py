"""Read and write the TFLite FlatBuffer as objects, without TensorFlow."""

from __future__ import annotations

from typing import Any

import flatbuffers

_IDENTIFIER = b"TFL3"
_MIN_RUNTIME = "min_runtime_version"


def unpack_model(data: bytes) -> Any:
    """A ``ModelT`` object tree of a ``.tflite`` file's bytes."""
    from ai_edge_litert import schema_py_generated as schema

    return schema.ModelT.InitFromPackedBuf(bytearray(data), 0)


def pack_model(model: Any) -> bytes:
    """The bytes of a ``.tflite`` file for a ``ModelT`` object tree."""
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), _IDENTIFIER)
    return bytes(builder.Output())


def minimum_runtime(model: Any) -> str:
    """Lowest TensorFlow Lite release that runs the model, as the converter recorded it, such as ``tflite 2.4.0``."""
    for entry in model.metadata or []:
        name = entry.name.decode() if isinstance(entry.name, bytes) else entry.name
        if name == _MIN_RUNTIME:
            text = bytes(model.buffers[entry.buffer].data).rstrip(b"\0").decode(errors="replace")
            if text:
                return f"tflite {text}"
    return "tflite, release not recorded"
