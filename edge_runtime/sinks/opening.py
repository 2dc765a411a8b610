"""Open the sink that --format and --output name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from edge_runtime.sinks.base import Sink

if TYPE_CHECKING:
    from edge_runtime.pipeline.health import Health


def open_sink(format_name: str, stream: TextIO, labels: Sequence[str], top_k: int, *, frames: bool) -> Sink:
    """Make the sink for a format; CSV and the table write their header at once.

    Args:
        format_name: ``jsonl`` or ``csv``; anything else is the form for a person.
        stream: Where to write.
        labels: All labels of the model, for the width of columns.
        top_k: Predictions for each result.
        frames: Whether results are frames of a video or camera, or else images.
    """
    # Each is imported where it is chosen, because a cold start waits for every import.
    if format_name == "jsonl":
        from edge_runtime.sinks.rows import JsonlSink

        return JsonlSink(stream)
    if format_name == "csv":
        from edge_runtime.sinks.rows import CsvSink

        return CsvSink(stream, ranks=min(top_k, len(labels)), frames=frames)
    from edge_runtime.sinks.rows import FrameSink, TableSink

    return FrameSink(stream, labels) if frames else TableSink(stream, labels)


def open_frame_sink(
    format_name: str,
    stream: TextIO,
    labels: Sequence[str],
    top_k: int,
    *,
    every: str = "frame",
    health: Health | None = None,
) -> Sink:
    """Make the sink of a camera's standard output; the form for a person is one updating line on a terminal.

    Args:
        format_name: ``jsonl``, ``csv`` or ``text``.
        stream: Where to write.
        labels: All labels of the model.
        top_k: Predictions for each result.
        every: ``frame`` for all results, ``event`` for only those that `edge_runtime.sinks.base.is_news` names. The
            updating line shows every frame in place and keeps news above it, whichever is asked.
        health: What the updating line shows besides results; None counts for itself.
    """
    if format_name == "text" and stream.isatty() and os.environ.get("TERM") != "dumb":
        from edge_runtime.sinks.console import ConsoleSink

        return ConsoleSink(stream, health)
    return _filtered(open_sink(format_name, stream, labels, top_k, frames=True), every)


def _filtered(sink: Sink, every: str) -> Sink:
    if every != "event":
        return sink
    from edge_runtime.sinks.base import NewsOnly

    return NewsOnly(sink)
