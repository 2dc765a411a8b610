"""Which sink is meant by ``--format``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

from edge_runtime.sinks.base import Sink


def open_sink(format_name: str, stream: TextIO, labels: Sequence[str], top_k: int, *, frames: bool) -> Sink:
    """Make the sink for a format; CSV and the table write their header at once.

    Args:
        format_name: ``jsonl`` or ``csv``; anything else is the form for a person.
        stream: Where to write.
        labels: All labels of the model, for the width of columns.
        top_k: Predictions for each result.
        frames: Whether results are frames of a video or camera, or else pictures.
    """
    # Each is imported where it is chosen, because a cold start waits for every import.
    if format_name == "jsonl":
        from edge_runtime.sinks.jsonl import JsonlSink

        return JsonlSink(stream)
    if format_name == "csv":
        from edge_runtime.sinks.csv import CsvSink

        return CsvSink(stream, ranks=min(top_k, len(labels)), frames=frames)
    from edge_runtime.sinks.table import FrameSink, TableSink

    return FrameSink(stream, labels) if frames else TableSink(stream, labels)
