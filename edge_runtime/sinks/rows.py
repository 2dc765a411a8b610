"""Write results as rows: JSON lines, CSV, and aligned tables for people; `open_sink` chooses by format."""

from __future__ import annotations

import csv
import json
import os
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from edge_runtime.results import Classified, Failed, FrameStamp, Result, StateChange, to_record
from edge_runtime.sinks.base import NewsOnly, Sink
from edge_runtime.text import columns, csv_text, escape, fit, fit_path, pad

if TYPE_CHECKING:
    from edge_runtime.pipeline.health import Health
    from edge_runtime.preprocess import ImageU8


# Made once: json.dumps with other options makes an encoder for every record. No record holds itself.
_READABLE = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False)
_ASCII = json.JSONEncoder(allow_nan=False, check_circular=False)
_FRAME_FIELDS = ("frame", "time_s", "captured_at", "age_ms")
_PREDICTION = ("label", "score")
_STAGES = ("decode", "preprocess", "invoke")
_DECISION_FIELDS = ("decision", "decision_score", "event", "rejected")
_STATE_FIELDS = ("state", "state_reason")
_MAX_LABEL_WIDTH = 24
_SOURCE_WIDTHS = (16, 48)
_NUMBERS_HEADER = "score      ms"
_WIDTH_WITHOUT_TERMINAL = 240


def open_sink(format_name: str, stream: TextIO, labels: Sequence[str], top_k: int, *, frames: bool) -> Sink:
    """Make the sink of a format; CSV and the table write their header at once.

    Args:
        format_name: ``jsonl`` or ``csv``; any other name gives lines for people.
        stream: Text stream to write to.
        labels: All labels of the model, for the width of columns.
        top_k: Predictions for each result.
        frames: True for frames of a video or camera, False for images.
    """
    if format_name == "jsonl":
        return JsonlSink(stream)
    if format_name == "csv":
        return CsvSink(stream, ranks=min(top_k, len(labels)), frames=frames)
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
    """Make the sink of a camera's standard output; ``text`` on a terminal is one status line that is updated.

    Args:
        format_name: ``jsonl``, ``csv`` or ``text``.
        stream: Text stream to write to.
        labels: All labels of the model, for the width of columns.
        top_k: Predictions for each result.
        every: ``frame`` for all results, ``event`` for those of `edge_runtime.sinks.base.is_news`. The status line
            shows every frame, and news above it, in both cases.
        health: Counts of the run, for the status line; None counts the results written.
    """
    if format_name == "text" and stream.isatty() and os.environ.get("TERM") != "dumb":
        from edge_runtime.sinks.console import ConsoleSink  # builds on this module

        return ConsoleSink(stream, health)
    sink = open_sink(format_name, stream, labels, top_k, frames=True)
    return NewsOnly(sink) if every == "event" else sink


class _StreamSink(Sink):
    """Base of sinks that write lines to a stream of the caller and flush each."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def close(self) -> None:
        """Do nothing: every line was flushed, and the stream is the caller's."""

    def _line(self, text: str) -> None:
        self._stream.write(text + "\n")
        self._stream.flush()


class JsonlSink(_StreamSink):
    """JSON lines: one `edge_runtime.results.to_record` on each.

    A record with control characters, or with bytes that are not UTF-8 (as Python's surrogates), is written in ASCII
    with JSON escapes: no raw byte reaches a terminal, and nothing is lost.
    """

    def write(self, result: Result, image_hwc_rgb_u8: ImageU8 | None = None) -> None:  # noqa: ARG002
        """Write one line and flush it."""
        self._line(json_line(to_record(result)))


class CsvSink(_StreamSink):
    r"""CSV rows of source, predictions, stage times in milliseconds, and error: always the same columns.

    Control characters and undecodable bytes in names and labels become backslash escapes (``\x1b``), so every record
    is one line. A name or label that begins with ``=``, ``+``, ``-`` or ``@``, which a spreadsheet would run, gets a
    ``'`` in front (`edge_runtime.text.csv_text`); JSON lines are exact.

    The columns, in this order, are ``source``; for frames ``frame time_s captured_at age_ms``; ``label score`` and
    ``label_2 score_2`` ...; ``decode_ms preprocess_ms invoke_ms``; for frames ``decision decision_score event rejected
    state state_reason``; ``error``. ``event`` and ``rejected`` are ``true`` or ``false``; ``decision`` is empty if
    there is none. A change of the camera's state is a row with ``state`` and, in ``captured_at``, its time.

    Args:
        stream: Text stream to write to.
        ranks: Predictions for each row, at least 1.
        frames: True for frames of a video or camera, which have more columns than images.
    """

    def __init__(self, stream: TextIO, ranks: int, *, frames: bool = False) -> None:
        super().__init__(stream)
        self._writer = csv.writer(stream, lineterminator="\n")
        ranked = [f"{name}{'' if rank == 1 else f'_{rank}'}" for rank in range(1, ranks + 1) for name in _PREDICTION]
        stages = [f"{stage}_ms" for stage in _STAGES]
        before, after = (_FRAME_FIELDS, (*_DECISION_FIELDS, *_STATE_FIELDS)) if frames else ((), ())
        self._ranks = ranks
        self._columns = ("source", *before, *ranked, *stages, *after, "error")
        self._row(self._columns)

    def write(self, result: Result, image_hwc_rgb_u8: ImageU8 | None = None) -> None:  # noqa: ARG002
        """Write one row and flush it."""
        if isinstance(result, StateChange):
            cells = {"captured_at": to_record(result)["at"], "state": result.state.value}
            cells["state_reason"] = _cell(result.reason or "")
        elif isinstance(result, Failed):
            cells = {"error": _cell(f"{result.error_type}: {result.message}")}
        else:
            cells = self._answer(result)
        cells["source"] = _cell(result.source)
        self._row([cells.get(column, "") for column in self._columns])

    def _answer(self, result: Classified) -> dict[str, Any]:
        record = to_record(result)
        cells: dict[str, Any] = {name: record.get(name, "") for name in _FRAME_FIELDS}
        for rank, prediction in enumerate(record["top"][: self._ranks], 1):
            suffix = "" if rank == 1 else f"_{rank}"
            cells |= {f"label{suffix}": _cell(prediction["label"]), f"score{suffix}": prediction["score"]}
        cells |= {f"{stage}_ms": record["latency_ms"][stage] for stage in _STAGES}
        cells["rejected"] = _boolean(result.rejected)
        decision = record.get("decision")
        if decision:
            cells |= {"decision": _cell(decision["label"] or ""), "decision_score": decision["score"]}
            cells["event"] = _boolean(decision["event"])
        return cells

    def _row(self, values: Iterable[Any]) -> None:
        self._writer.writerow(values)
        self._stream.flush()


def _cell(text: str) -> str:
    return csv_text(escape(text))


class TableSink(_StreamSink):
    """One aligned line for each image: path, label, score, milliseconds, other predictions; or path and error.

    Widths are fixed before the first row, because rows are written at once: labels get the longest label's width, up
    to a limit, and paths two fifths of the terminal. Longer paths lose their middle, longer labels their end.
    """

    def __init__(self, stream: TextIO, labels: Sequence[str]) -> None:
        super().__init__(stream)
        self._label_width = _label_width(labels)
        self._width = _terminal_width(stream)
        low, high = _SOURCE_WIDTHS
        self._source_width = min(high, max(low, self._width * 2 // 5))
        self._row(pad("source", self._source_width), pad("label", self._label_width), _NUMBERS_HEADER)

    def write(self, result: Result, image_hwc_rgb_u8: ImageU8 | None = None) -> None:  # noqa: ARG002
        """Write one line and flush it."""
        source = pad(fit_path(escape(result.source), self._source_width), self._source_width)
        if isinstance(result, Failed):
            # Never shortened: the message says what to do.
            self._line(f"{source}  error: {escape(result.message)}")
        elif isinstance(result, StateChange):
            self._row(source, state_phrase(result))
        else:
            self._row(source, first_prediction(result, self._label_width), other_predictions(result))

    def _row(self, *parts: str) -> None:
        self._line(fit("  ".join(parts).rstrip(), self._width))


class FrameSink(_StreamSink):
    """One aligned line for each frame: time (of day if live, else in the video), number, label, score, milliseconds."""

    def __init__(self, stream: TextIO, labels: Sequence[str]) -> None:
        super().__init__(stream)
        self._label_width = _label_width(labels)
        self._width = _terminal_width(stream)

    def write(self, result: Result, image_hwc_rgb_u8: ImageU8 | None = None) -> None:  # noqa: ARG002
        """Write one line and flush it."""
        if isinstance(result, Failed):
            line = f"error: {escape(result.message)}"
        elif isinstance(result, StateChange):
            line = f"{clock_of_day(result.at)}  {state_phrase(result)}"
        else:
            line = fit(self._frame_line(result), self._width)
        self._line(line)

    def _frame_line(self, result: Classified) -> str:
        frame = result.frame
        where = f"{_clock(frame)}  frame {frame.number:>6}" if frame else ""
        event = f"event: {event_phrase(result)}" if result.decision and result.decision.event else ""
        parts = (where, first_prediction(result, self._label_width), "rejected" if result.rejected else "", event)
        return "  ".join(part for part in (*parts, other_predictions(result)) if part)


def json_line(record: object) -> str:
    """Encode a record as one line of JSON without control characters and without a newline."""
    text = _READABLE.encode(record)
    if text.isprintable():
        return text
    # DEL is the one control character that json leaves as it is.
    return _ASCII.encode(record).replace("\x7f", "\\u007f")


def first_prediction(result: Classified, label_width: int) -> str:
    """Format the first prediction, its score 0..1 and the milliseconds of all stages in fixed columns."""
    best = result.top[0]
    label = pad(fit(escape(best.label), label_width), label_width)
    return f"{label}  {best.score:.3f}  {result.latency_ms.total:6.1f}"


def other_predictions(result: Classified) -> str:
    """Format the other predictions in one phrase; empty if there are none."""
    return ", ".join(f"{fit(escape(other.label), _MAX_LABEL_WIDTH)} {other.score:.3f}" for other in result.top[1:])


def event_phrase(result: Classified) -> str:
    """Format the decision of a result: ``cat 0.930``, or ``nothing 0.310`` without a label."""
    decision = result.decision
    if decision is None:
        return ""
    label = "nothing" if decision.label is None else escape(decision.label)
    return f"{fit(label, _MAX_LABEL_WIDTH)} {decision.score:.3f}"


def state_phrase(change: StateChange) -> str:
    """Format a source's state and its reason: ``reconnecting: gave no frame for 5 s``."""
    return f"{change.state.value}: {escape(change.reason)}" if change.reason else change.state.value


def clock_of_day(unix_s: float) -> str:
    """Format a Unix time in seconds as local time, ``12:03:01``."""
    return time.strftime("%H:%M:%S", time.localtime(unix_s))


def _clock(frame: FrameStamp) -> str:
    seconds = frame.time_s
    if frame.captured_at is not None:
        local = time.localtime(frame.captured_at)
        seconds = local.tm_hour * 3600 + local.tm_min * 60 + local.tm_sec + frame.captured_at % 1
    minutes, rest_ms = divmod(int(seconds * 1000), 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest_ms // 1000:02}.{rest_ms % 1000:03}"


def _label_width(labels: Sequence[str]) -> int:
    return min(_MAX_LABEL_WIDTH, max(5, *(columns(escape(label)) for label in labels)))


def _terminal_width(stream: TextIO) -> int:
    # Not shutil.get_terminal_size: its module takes 8 ms of a cold start.
    if not stream.isatty():
        return _WIDTH_WITHOUT_TERMINAL
    try:
        return os.get_terminal_size(stream.fileno()).columns or _WIDTH_WITHOUT_TERMINAL
    except OSError:
        return _WIDTH_WITHOUT_TERMINAL


def _boolean(value: bool) -> str:
    return "true" if value else "false"
