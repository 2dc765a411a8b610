"""The file of a camera's ``--output``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edge_runtime.sinks.background import BackgroundSink
from edge_runtime.sinks.base import Sink
from edge_runtime.sinks.events import NewsOnly, is_news
from edge_runtime.sinks.rotating import FileSink


def open_file_sink(
    path: Path,
    format_name: str,
    labels: Sequence[str],
    top_k: int,
    *,
    every: str = "frame",
    max_bytes: int | None = None,
    keep: int = 5,
    live: bool = True,
) -> Sink:
    """Make the sink of a camera's ``--output``; see `edge_runtime.sinks.rotating.FileSink`.

    Args:
        path: The file, which is appended to.
        format_name: ``jsonl`` or ``csv``.
        labels: All labels of the model.
        top_k: Predictions for each result.
        every: As for `open_frame_sink`.
        max_bytes: Size at which the file is rotated, or None.
        keep: How many full files are kept.
        live: Whether to go on through trouble, as a `edge_runtime.sinks.base.MonitoredSink`. Otherwise ``write`` waits
            for the disk and raises OSError, as is right for a video file, of which every frame counts.

    Raises:
        OutputError: The file cannot be opened, another program writes to it, or it holds something else.
    """
    sink = FileSink(path, format_name, labels, top_k, max_bytes=max_bytes, keep=keep)
    if not live:
        return NewsOnly(sink) if every == "event" else sink
    return BackgroundSink(sink, "output", capacity=1000, wants=is_news if every == "event" else None)
