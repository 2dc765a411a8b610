"""Show camera results on a terminal: scrolling news above one status line."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, TextIO

from edge_runtime.pipeline.health import Health, Snapshot
from edge_runtime.results import Classified, Failed, Result, SourceState, StateChange
from edge_runtime.sinks.base import Sink, capture_time, is_news
from edge_runtime.sinks.rows import clock_of_day, event_phrase, state_phrase
from edge_runtime.text import columns, escape, fit, pad

if TYPE_CHECKING:
    from edge_runtime.preprocess import ImageU8


UPDATE_EVERY_S = 0.25
_CLEAR = "\r\x1b[K"  # carriage return, erase line
_LABEL_WIDTH, _BAR_WIDTH = 20, 16
_WIDTH_UNKNOWN = 80


class ConsoleSink(Sink):
    """A status line with the last result, updated at most four times a second, below scrolling news.

    The line never reaches the last column, so no terminal wraps it, and the cursor stays visible, so a killed process
    leaves the terminal usable.

    Args:
        stream: Text stream of a terminal.
        health: Counts of the run by the camera's loop; None counts the results written here.
    """

    def __init__(self, stream: TextIO, health: Health | None = None) -> None:
        self._stream = stream
        self._own_health = Health() if health is None else None
        self._health = health or self._own_health or Health()
        self._blocks = _can_write(stream, "█░")
        self._next_update_s = 0.0
        self._shown = False

    def write(self, result: Result, image_hwc_rgb_u8: ImageU8 | None = None) -> None:  # noqa: ARG002
        """Print news, and update the status line if it is due."""
        if self._own_health:
            self._own_health.add(result)
        now_s = time.monotonic()
        news = is_news(result)
        if not news and now_s < self._next_update_s:
            return
        self._next_update_s = now_s + UPDATE_EVERY_S
        self._update(_CLEAR + _news_line(result) + "\n" if news else _CLEAR)
        self._shown = True

    def close(self) -> None:
        """Leave the last status line on the terminal, with the cursor below it."""
        if self._shown:
            self._shown = False
            self._update(_CLEAR, "\n")

    def _update(self, before: str, after: str = "") -> None:
        line = status_line(self._health.snapshot(), _width(self._stream), blocks=self._blocks)
        self._stream.write(before + line + after)
        self._stream.flush()


def status_line(snapshot: Snapshot, width: int, *, blocks: bool = True) -> str:
    """Format the state of a run in fewer than ``width`` columns; the least important parts are left out first.

    Args:
        snapshot: State of the run.
        width: Width of the terminal in columns.
        blocks: True if the terminal's encoding has block characters.
    """
    limit = max(1, width - 1)
    if snapshot.state not in (None, SourceState.CONNECTED):
        reason = f": {escape(snapshot.state_reason)}" if snapshot.state_reason else ""
        return fit(f"{snapshot.state.value}{reason}", limit)
    last = snapshot.last
    if last is None:
        return fit("waiting for the first frame", limit)
    label, score = _answer(last)
    full, empty = ("█", "░") if blocks else ("#", ".")
    filled = round(min(max(score, 0.0), 1.0) * _BAR_WIDTH)
    problems = [f"{escape(sink.name)}: {escape(sink.problem)}" for sink in snapshot.sinks if sink.problem]
    # In the order of the line, each with its rank: on a narrow terminal the highest ranks are left out first.
    parts = [
        (0, pad(fit(label, _LABEL_WIDTH), _LABEL_WIDTH)),
        (5, full * filled + empty * (_BAR_WIDTH - filled)),
        (0, f"{score:.2f}"),
        (2, f"{snapshot.frames_per_second:5.1f}/s"),
        (3, f"{last.latency_ms.total:6.1f} ms"),
        (4, f"age {last.frame.age_ms:6.1f} ms" if last.frame else ""),
        (6, snapshot.state.value if snapshot.state else ""),
        (1, "; ".join(problems)),
    ]
    kept = [part for part in parts if part[1]]
    while True:
        line = "  ".join(text for _, text in kept)
        least = max(rank for rank, _ in kept)
        if columns(line) <= limit:
            return line
        if least <= 1:
            return fit(" ".join(line.split()), limit)
        kept = [part for part in kept if part[0] != least]


def _answer(last: Classified) -> tuple[str, float]:
    """Label and score of the decision, or of the frame itself with a question mark if there is no decision."""
    if last.decision and last.decision.label is not None:
        return escape(last.decision.label), last.decision.score
    best = last.top[0]
    doubt = "?" if last.rejected or last.decision else ""
    return fit(escape(best.label), _LABEL_WIDTH - len(doubt)) + doubt, best.score


def _news_line(result: Result) -> str:
    if isinstance(result, StateChange):
        return f"{clock_of_day(result.at)}  {state_phrase(result)}"
    if isinstance(result, Failed):
        return f"error: {escape(result.message)}"
    return f"{clock_of_day(capture_time(result))}  {event_phrase(result)}"


def _width(stream: TextIO) -> int:
    # Read for every line, because windows are resized.
    try:
        return os.get_terminal_size(stream.fileno()).columns or _WIDTH_UNKNOWN
    except OSError:
        return _WIDTH_UNKNOWN


def _can_write(stream: TextIO, text: str) -> bool:
    try:
        text.encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
