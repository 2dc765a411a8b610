"""A JSON record inside a JPEG file, as its comment: it goes wherever the picture is moved.

Source: ITU-T T.81, annex B (marker segments), and the JFIF specification, whose APP0 segment comes first.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from edge_runtime.sinks.jsonl import json_line

MAX_NOTE_BYTES = 65_533
"""What one comment segment holds; notes are within the first `HEAD_BYTES` of a file that `with_note` wrote."""

HEAD_BYTES = 2 * 65_536
_START, _COMMENT, _APP0 = b"\xff\xd8", 0xFE, 0xE0
_BEFORE_PIXELS = {_COMMENT, *range(_APP0, _APP0 + 16)}


def with_note(jpeg: bytes, record: Mapping[str, Any]) -> bytes:
    """Put a record into a JPEG file that has none; of one that is too long, ``top`` is left out.

    Raises:
        ValueError: Not a JPEG file, or the record is too long without its ``top`` as well.
    """
    if not jpeg.startswith(_START):
        raise ValueError("expected a JPEG file")
    note = json_line(record).encode("utf-8", errors="backslashreplace")
    if len(note) > MAX_NOTE_BYTES:
        note = json_line({name: value for name, value in record.items() if name != "top"}).encode()
    if len(note) > MAX_NOTE_BYTES:
        raise ValueError(f"expected a note of at most {MAX_NOTE_BYTES} bytes, got {len(note)}")
    first = next(_segments(jpeg), None)
    at = first[1] + first[2] if first and first[0] == _APP0 else len(_START)
    return b"".join((jpeg[:at], bytes((0xFF, _COMMENT)), (len(note) + 2).to_bytes(2, "big"), note, jpeg[at:]))


def note_of(head: bytes) -> dict[str, Any] | None:
    """The record in a JPEG file, or None where there is none.

    Args:
        head: At least the first `HEAD_BYTES` of the file, or all of it.
    """
    for marker, start, length in _segments(head):
        if marker == _COMMENT:
            try:
                record = json.loads(head[start : start + length])
            except (ValueError, RecursionError):
                continue
            if isinstance(record, dict):
                return record
    return None


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, start and length of the payload of the segments before a picture's tables, as far as they are whole."""
    offset = len(_START) if data.startswith(_START) else len(data)
    while offset + 4 <= len(data) and data[offset] == 0xFF and data[offset + 1] in _BEFORE_PIXELS:
        length = int.from_bytes(data[offset + 2 : offset + 4], "big")
        if length < 2 or offset + 2 + length > len(data):
            return
        yield data[offset + 1], offset + 4, length - 2
        offset += 2 + length
