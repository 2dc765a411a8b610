"""Read the wire format of protocol buffers (https://protobuf.dev/programming-guides/encoding/), bounds-checked.

Enough to look into a ``saved_model.pb`` without TensorFlow: fields are found by number, the rest is passed over.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

Message: TypeAlias = memoryview
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_VARINT_BYTES = 10


class WireError(ValueError):
    """Bytes that are no protocol buffer."""


def fields(message: Message) -> Iterator[tuple[int, int | Message]]:
    """Yield (field number, value): an int of a varint or fixed-size field, a view of a text, table or packed field.

    Raises:
        WireError: A length that leaves the message, or a kind of field that does not exist.
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
            raise WireError(f"field kind {kind} at byte {position}")
        end = position + size
        if end > len(message):
            raise WireError(f"a field of {size} bytes at byte {position} of {len(message)}")
        content = message[position:end]
        yield number, content if kind == _BYTES else int.from_bytes(content, "little")
        position = end


def messages(message: Message, *path: int) -> Iterator[Message]:
    """Every nested message under field numbers, such as ``messages(graph, 2, 1)`` for the functions of its library."""
    for number, value in fields(message):
        if number == path[0] and isinstance(value, memoryview):
            if len(path) == 1:
                yield value
            else:
                yield from messages(value, *path[1:])


def text(message: Message, number: int) -> str:
    """The last text of a field, or an empty one."""
    found = ""
    for value in messages(message, number):
        found = bytes(value).decode(errors="replace")
    return found


def integer(message: Message, number: int) -> int:
    """The last integer of a field as a signed 64-bit number, or 0."""
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
    raise WireError(f"a number at byte {position} that does not end")
