"""Comma-separated values, with a header, for spreadsheets and data frames."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TextIO

from edge_runtime.results import Classified, Failed, Result, StateChange, to_record
from edge_runtime.sinks.base import Sink
from edge_runtime.sinks.text import escape

if TYPE_CHECKING:
    from edge_runtime.preprocess import ImageU8

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
