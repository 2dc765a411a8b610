"""Rows of results: JSON lines, CSV, and aligned tables for people."""

from __future__ import annotations

import csv
import json
import os
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from edge_runtime.results import Classified, Failed, FrameStamp, Result, StateChange, to_record
from edge_runtime.sinks.base import Sink
from edge_runtime.text import columns, escape, fit, fit_path, pad

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


_FRAME_FIELDS = ("frame", "time_s", "captured_at", "age_ms")
_PREDICTION = ("label", "score")
_STAGES = ("decode", "preprocess", "invoke")
_DECISION_FIELDS = ("decision", "decision_score", "event", "rejected")
_STATE_FIELDS = ("state", "state_reason")


class CsvSink(Sink):
    r"""Writes source, answer, runners-up, stage times in milliseconds, and the error: always the same columns.

    Control characters and undecodable bytes in names and labels become backslash escapes (``\x1b``), so every record
    is one line. Values that begin with ``=``, ``+``, ``-`` or ``@`` are left as they are, because this file is read by
    programs, for which a changed file name would be wrong; import it into a spreadsheet as text when its names come
    from strangers.

    The columns, in this order, are ``source``; for frames ``frame time_s captured_at age_ms``; ``label score`` and
    ``label_2 score_2`` ...; ``decode_ms preprocess_ms invoke_ms``; for frames ``decision decision_score event rejected
    state state_reason``; ``error``. ``event`` and ``rejected`` are ``true`` or ``false``, ``decision`` is empty where
    there is none. A camera that came or went is a row with its ``state`` and, as ``captured_at``, the moment.

    Args:
        stream: Where to write.
        ranks: How many predictions a row has room for.
        frames: Whether rows are frames of a video or camera.
    """

    def __init__(self, stream: TextIO, ranks: int, *, frames: bool = False) -> None:
        self._stream = stream
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
            cells["state_reason"] = escape(result.reason or "")
        elif isinstance(result, Failed):
            cells = {"error": escape(f"{result.error_type}: {result.message}")}
        else:
            cells = self._answer(result)
        cells["source"] = escape(result.source)
        self._row([cells.get(column, "") for column in self._columns])

    def close(self) -> None:
        """Do nothing: every line was flushed, and the stream is the caller's."""

    def _answer(self, result: Classified) -> dict[str, Any]:
        record = to_record(result)
        cells: dict[str, Any] = {name: record.get(name, "") for name in _FRAME_FIELDS}
        for rank, prediction in enumerate(record["top"][: self._ranks], 1):
            suffix = "" if rank == 1 else f"_{rank}"
            cells |= {f"label{suffix}": escape(prediction["label"]), f"score{suffix}": prediction["score"]}
        cells |= {f"{stage}_ms": record["latency_ms"][stage] for stage in _STAGES}
        cells["rejected"] = _boolean(result.rejected)
        decision = record.get("decision")
        if decision:
            cells |= {"decision": escape(decision["label"] or ""), "decision_score": decision["score"]}
            cells["event"] = _boolean(decision["event"])
        return cells

    def _row(self, values: Iterable[Any]) -> None:
        self._writer.writerow(values)
        self._stream.flush()


def _boolean(value: bool) -> str:
    return "true" if value else "false"


_MAX_LABEL_WIDTH = 24
_SOURCE_WIDTHS = (16, 48)
_NUMBERS_HEADER = "score      ms"
_WIDTH_WITHOUT_TERMINAL = 240


class TableSink(Sink):
    """One aligned line an image: path, answer, score, milliseconds, runners-up; or path and reason.

    Widths are fixed before the first row, because rows are not held back: labels take what the longest needs, up to a
    limit, paths about a third of the terminal. Longer paths lose their middle, longer labels their end.
    """

    def __init__(self, stream: TextIO, labels: Sequence[str]) -> None:
        self._stream = stream
        self._label_width = _label_width(labels)
        self._width = _terminal_width(stream)
        low, high = _SOURCE_WIDTHS
        self._source_width = min(high, max(low, self._width * 2 // 5))
        self._line(pad("source", self._source_width), pad("label", self._label_width), _NUMBERS_HEADER)

    def write(self, result: Result, image_hwc_rgb_u8: ImageU8 | None = None) -> None:  # noqa: ARG002
        """Write one line and flush it."""
        source = pad(fit_path(escape(result.source), self._source_width), self._source_width)
        if isinstance(result, Failed):
            # A reason is never cut: it says what to do.
            self._stream.write(f"{source}  error: {escape(result.message)}\n")
            self._stream.flush()
        elif isinstance(result, StateChange):
            self._line(source, state_phrase(result))
        else:
            self._line(source, answer(result, self._label_width), runners_up(result))

    def close(self) -> None:
        """Do nothing: every line was flushed, and the stream is the caller's."""

    def _line(self, *parts: str) -> None:
        self._stream.write(fit("  ".join(parts).rstrip(), self._width) + "\n")
        self._stream.flush()


class FrameSink(Sink):
    """One aligned line a frame: time (of day when live, else in the video), number, answer, score, milliseconds."""

    def __init__(self, stream: TextIO, labels: Sequence[str]) -> None:
        self._stream = stream
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
        self._stream.write(line + "\n")
        self._stream.flush()

    def close(self) -> None:
        """Do nothing: every line was flushed, and the stream is the caller's."""

    def _frame_line(self, result: Classified) -> str:
        frame = result.frame
        where = f"{_clock(frame)}  frame {frame.number:>6}" if frame else ""
        event = f"event: {event_phrase(result)}" if result.decision and result.decision.event else ""
        parts = (where, answer(result, self._label_width), "rejected" if result.rejected else "", event)
        return "  ".join(part for part in (*parts, runners_up(result)) if part)


def answer(result: Classified, label_width: int) -> str:
    """The answer, its score 0..1 and the milliseconds of all stages, in fixed columns."""
    best = result.top[0]
    label = pad(fit(escape(best.label), label_width), label_width)
    return f"{label}  {best.score:.3f}  {result.latency_ms.total:6.1f}"


def runners_up(result: Classified) -> str:
    """The other predictions in one phrase, empty where there are none."""
    return ", ".join(f"{fit(escape(other.label), _MAX_LABEL_WIDTH)} {other.score:.3f}" for other in result.top[1:])


def event_phrase(result: Classified) -> str:
    """What an answer's decision says: ``cat 0.930``, or ``nothing 0.310`` where it has no label."""
    decision = result.decision
    if decision is None:
        return ""
    label = "nothing" if decision.label is None else escape(decision.label)
    return f"{fit(label, _MAX_LABEL_WIDTH)} {decision.score:.3f}"


def state_phrase(change: StateChange) -> str:
    """What a source is now, and why: ``reconnecting: gave no frame for 5 s``."""
    return f"{change.state.value}: {escape(change.reason)}" if change.reason else change.state.value


def clock_of_day(unix_s: float) -> str:
    """Local time ``12:03:01`` of a Unix time in seconds."""
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
    # shutil.get_terminal_size would do, but its module costs 8 ms of a cold start.
    if not stream.isatty():
        return _WIDTH_WITHOUT_TERMINAL
    try:
        return os.get_terminal_size(stream.fileno()).columns or _WIDTH_WITHOUT_TERMINAL
    except OSError:
        return _WIDTH_WITHOUT_TERMINAL
