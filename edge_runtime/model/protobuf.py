"""Bounds-checked reader of the protocol buffer wire format (https://protobuf.dev/programming-guides/encoding).

Fields are found by number, so that neither a schema nor the ``protobuf`` package is needed: a device reads the metadata
of an ``.onnx`` with it, and the converter inspects a SavedModel before TensorFlow loads it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

Message: TypeAlias = memoryview

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_VARINT_BYTES = 10


class WireError(ValueError):
    """Bytes that are not a protocol buffer."""


def fields(message: Message) -> Iterator[tuple[int, int | Message]]:
    """Yield (field number, value): an int for a varint or fixed-size field, a view for text, message or packed field.

    Raises:
        WireError: A length past the end of the message, or an unknown wire type.
    """
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, position = _varint(message, position)
            yield number, value
            continue
        if kind == _BYTES:
            size, position = _varint(message, position)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise WireError(f"wire type {kind} at byte {position}")
        end = position + size
        if end > len(message):
            raise WireError(f"a field of {size} bytes at byte {position} of {len(message)}")
        content = message[position:end]
        yield number, content if kind == _BYTES else int.from_bytes(content, "little")
        position = end


def messages(message: Message, *path: int) -> Iterator[Message]:
    """Yield the nested messages at a path of field numbers: ``messages(graph, 2, 1)`` gives field 1 of each field 2."""
    for number, value in fields(message):
        if number == path[0] and isinstance(value, memoryview):
            if len(path) == 1:
                yield value
            else:
                yield from messages(value, *path[1:])


def text(message: Message, number: int) -> str:
    """Decode the last text of a field; empty where there is none."""
    found = ""
    for value in messages(message, number):
        found = bytes(value).decode(errors="replace")
    return found


def integer(message: Message, number: int) -> int:
    """Give the last integer of a field as a signed 64-bit number; 0 where there is none."""
    found = 0
    for field, value in fields(message):
        if field == number and isinstance(value, int):
            found = value
    return found - (1 << 64) if found >= 1 << 63 else found


def _varint(message: Message, position: int) -> tuple[int, int]:
    value = 0
    for index in range(_MAX_VARINT_BYTES):
        if position + index >= len(message):
            break
        byte = message[position + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value & ((1 << 64) - 1), position + index + 1
    raise WireError(f"an integer at byte {position} that does not end")
