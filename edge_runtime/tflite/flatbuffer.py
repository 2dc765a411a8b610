"""Bounds-checked FlatBuffers reader: every table, vector and string lies inside the file before it is used.

Format: https://flatbuffers.dev/internals. Plain `struct`, since the reader runs before every classification and a
device has neither the generated schema nor the ``flatbuffers`` package.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TypeAlias

from edge_runtime.errors import IntegrityError

Bytes: TypeAlias = "bytes | bytearray | memoryview"
Span: TypeAlias = tuple[int, int]
"""First byte and number of items of a vector or text."""

# The largest table of the TFLite schema has 14 fields. Tables may be named from many places, so that without a limit a
# small file could keep a reader busy for hours; a real classifier has some thousands of parts.
_MAX_FIELDS = 64
_MAX_PARTS = 250_000
_MIN_TEXT_BYTES = 1 << 20
_TOO_MANY = "it names more parts than a real model has"
_NO_SPAN: Span = (0, 0)
_ABSENT = (0,) * _MAX_FIELDS

_U32 = struct.Struct("<I").unpack_from
_I32 = struct.Struct("<i").unpack_from
_VTABLE = struct.Struct("<HH").unpack_from
_SCALARS = {code: struct.Struct(f"<{code}") for code in "bBiIQ"}


class DamageError(IntegrityError):
    """A FlatBuffer that points outside itself, or whose parts do not fit together."""


class Reader:
    """One FlatBuffer in the content of a whole file, with four bytes of ``identifier`` at offset 4.

    Bytes after the FlatBuffer are ignored; a file that is too short or of another kind raises DamageError.
    """

    def __init__(self, data: Bytes, identifier: bytes) -> None:
        self.data, self.size = data, len(data)
        # A text may be named from many places too, and readers that build objects copy it each time.
        self._parts, self._text_bytes = _MAX_PARTS, 2 * self.size + _MIN_TEXT_BYTES
        self._vtables: dict[int, tuple[int, tuple[int, ...]]] = {}
        if self.size < 8 or bytes(data[4:8]) != identifier:
            raise DamageError(f"it does not begin as a file of the kind {identifier.decode()}")

    def root(self) -> Table:
        """Root table."""
        return self.table(int(_U32(self.data, 0)[0]))

    def spend(self, parts: int) -> None:
        """Count parts that are about to be read."""
        self._parts -= parts
        if self._parts < 0:
            raise DamageError(_TOO_MANY)

    def spend_text(self, text_bytes: int) -> None:
        """Count the bytes of a text that is about to be read."""
        self._text_bytes -= text_bytes
        if self._text_bytes < 0:
            raise DamageError(_TOO_MANY)

    def table(self, at: int) -> Table:
        """Table at an offset."""
        self.spend(1)
        if at & 3 or at + 4 > self.size:
            raise DamageError(f"a table at byte {at} of {self.size}")
        vtable_at = at - _I32(self.data, at)[0]
        layout = self._vtables.get(vtable_at) or self._read_vtable(vtable_at)
        if at + layout[0] > self.size:
            raise DamageError(f"the table at byte {at} is cut off")
        return Table(self, at, *layout)

    def _read_vtable(self, at: int) -> tuple[int, tuple[int, ...]]:
        if at & 1 or not 0 <= at <= self.size - 4:
            raise DamageError(f"a table layout at byte {at} of {self.size}")
        length, table_bytes = _VTABLE(self.data, at)
        count = (length - 4) // 2
        if length & 1 or not 0 <= count <= _MAX_FIELDS or at + length > self.size or table_bytes < 4:
            raise DamageError(f"the table layout at byte {at} is not one")
        offsets = struct.unpack_from(f"<{count}H", self.data, at + 4)
        if any(offset and not 4 <= offset < table_bytes for offset in offsets):
            raise DamageError(f"the table layout at byte {at} names fields outside its table")
        # Fields that the writer did not know are absent.
        layout = table_bytes, offsets + _ABSENT[count:]
        self._vtables[at] = layout
        return layout

    def vector(self, at: int, item_bytes: int) -> Span:
        """Span of the vector at an offset."""
        if at & 3 or at + 4 > self.size:
            raise DamageError(f"a list at byte {at} of {self.size}")
        count = int(_U32(self.data, at)[0])
        if at + 4 + count * item_bytes > self.size:
            raise DamageError(f"the list at byte {at} has {count} items of {item_bytes} bytes, past the end")
        return at + 4, count

    def text(self, span: Span) -> str:
        """Decode a span that `Table.text` returned; bytes that are not UTF-8 are replaced."""
        return bytes(self.data[span[0] : span[0] + span[1]]).decode(errors="replace")

    def numbers(self, span: Span, code: str) -> tuple[int, ...]:
        """Integers of a span; ``code`` as in `struct`."""
        self.spend(span[1])
        return struct.unpack_from(f"<{span[1]}{code}", self.data, span[0])


class Table:
    """A table whose layout is inside the file; each field is checked when it is read.

    A field is named by its position in the schema; deprecated fields count, and a union takes two.
    """

    __slots__ = ("_bytes", "_offsets", "at", "reader")

    def __init__(self, reader: Reader, at: int, table_bytes: int, offsets: tuple[int, ...]) -> None:
        self.reader, self.at = reader, at
        self._bytes, self._offsets = table_bytes, offsets

    # Most fields of most tables are absent, so each method tests that first: this runs at every start.

    def find(self, field: int, field_bytes: int) -> int:
        """Offset in the file of a field of ``field_bytes``; 0 where it is absent."""
        offset = self._offsets[field]
        if offset == 0:
            return 0
        if offset + field_bytes > self._bytes:
            raise DamageError(f"field {field} of the table at byte {self.at} is cut off")
        return self.at + offset

    def scalar(self, field: int, code: str, default: int = 0) -> int:
        """Integer field; ``code`` as in `struct`."""
        if not self._offsets[field]:
            return default
        kind = _SCALARS[code]
        return int(kind.unpack_from(self.reader.data, self.find(field, kind.size))[0])

    def vector(self, field: int, item_bytes: int) -> Span:
        """Span of a vector of scalars; (0, 0) where it is absent."""
        if not self._offsets[field]:
            return _NO_SPAN
        at = self.find(field, 4)
        return self.reader.vector(at + int(_U32(self.reader.data, at)[0]), item_bytes)

    def text(self, field: int) -> Span:
        """Span of a zero-terminated text; (0, 0) where it is absent."""
        if not self._offsets[field]:
            return _NO_SPAN
        span = self.vector(field, 1)
        self.reader.spend_text(span[1])
        end = span[0] + span[1]
        if end >= self.reader.size or self.reader.data[end] != 0:
            raise DamageError(f"the text at byte {span[0]} has no end")
        return span

    def table(self, field: int) -> Table | None:
        """Table that a field points to, or None."""
        if not self._offsets[field]:
            return None
        at = self.find(field, 4)
        return self.reader.table(at + int(_U32(self.reader.data, at)[0]))

    def tables(self, field: int) -> Iterator[Table]:
        """Yield the tables of a vector of tables."""
        start, count = self.vector(field, 4)
        reader = self.reader
        for at in range(start, start + 4 * count, 4):
            yield reader.table(at + int(_U32(reader.data, at)[0]))
