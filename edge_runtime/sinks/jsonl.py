"""JSON Lines: one record a line, the exact format for programs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, TextIO

from edge_runtime.results import Result, to_record
from edge_runtime.sinks.base import Sink

if TYPE_CHECKING:
    from edge_runtime.preprocess import ImageU8


# Made once: json.dumps with other than its own defaults makes one for every record. No record holds itself.
_READABLE = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False)
_ASCII = json.JSONEncoder(allow_nan=False, check_circular=False)


class JsonlSink(Sink):
    """Writes `edge_runtime.results.to_record`, one a line.

    Readable text stays readable. A record with control characters, or with bytes that are not UTF-8 (as Python's
    surrogates), is written in ASCII with JSON escapes: no raw byte reaches a terminal, and nothing is lost.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, result: Result, image_hwc_rgb_u8: ImageU8 | None = None) -> None:  # noqa: ARG002
        """Write one line and flush it."""
        self._stream.write(json_line(to_record(result)) + "\n")
        self._stream.flush()

    def close(self) -> None:
        """Do nothing: every line was flushed, and the stream is the caller's."""


def json_line(record: object) -> str:
    """One line of JSON without control characters."""
    text = _READABLE.encode(record)
    if text.isprintable():
        return text
    # DEL is the one control character that json leaves as it is.
    return _ASCII.encode(record).replace("\x7f", "\\u007f")
