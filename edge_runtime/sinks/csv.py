"""Comma-separated values, with a header, for spreadsheets and data frames."""

from __future__ import annotations

import csv
from typing import Any, TextIO

from edge_runtime.results import Failed, Result, to_record
from edge_runtime.sinks.base import Sink
from edge_runtime.sinks.text import escape

_FRAME_FIELDS = ("frame", "time_s", "captured_at", "age_ms")
_PREDICTION = ("label", "score")
_STAGES = ("decode", "preprocess", "invoke")


class CsvSink(Sink):
    r"""Writes source, answer, runners-up, stage times in milliseconds, and the error, always the same columns.

    Control characters and undecodable bytes in names and labels become backslash escapes (``\x1b``), so every record
    is one line. Values that begin with ``=``, ``+``, ``-`` or ``@`` are left as they are, because this file is read by
    programs, for which a changed file name would be wrong; import it into a spreadsheet as text when its names come
    from strangers.

    Args:
        stream: Where to write.
        ranks: How many predictions a row has room for: ``label,score,label_2,score_2,...``.
        frames: Whether rows are frames, which adds their number, times and age.
    """

    def __init__(self, stream: TextIO, ranks: int, *, frames: bool = False) -> None:
        self._stream = stream
        self._ranks = ranks
        self._frame_fields = _FRAME_FIELDS if frames else ()
        self._writer = csv.writer(stream, lineterminator="\n")
        names = [f"{name}{'' if rank == 1 else f'_{rank}'}" for rank in range(1, ranks + 1) for name in _PREDICTION]
        stages = [f"{stage}_ms" for stage in _STAGES]
        self._row(["source", *self._frame_fields, *names, *stages, "error"])

    def write(self, result: Result) -> None:
        """Write one row and flush it."""
        record = to_record(result)
        values: list[Any] = [escape(result.source)]
        values += [record.get(name, "") for name in self._frame_fields]
        if isinstance(result, Failed):
            values += [""] * (self._ranks * len(_PREDICTION) + len(_STAGES))
            values.append(escape(f"{result.error_type}: {result.message}"))
        else:
            for prediction in record["top"][: self._ranks]:
                values += [escape(prediction["label"]), prediction["score"]]
            values += [""] * (len(_PREDICTION) * (self._ranks - len(record["top"])))
            values += [*(record["latency_ms"][stage] for stage in _STAGES), ""]
        self._row(values)

    def _row(self, values: list[Any]) -> None:
        self._writer.writerow(values)
        self._stream.flush()
