"""Resume an interrupted run: rows appended one by one to an existing file (``--skip-done``)."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edge_runtime.errors import OutputError
from edge_runtime.results import Result
from edge_runtime.sinks.base import Sink
from edge_runtime.sinks.files import RotatingFile, is_csv_with, is_jsonl
from edge_runtime.sinks.opening import open_sink
from edge_runtime.sources.images import NameSet
from edge_runtime.text import escape

if TYPE_CHECKING:
    from edge_runtime.preprocess import ImageU8


_LONGEST_ROW = 1 << 24


class AppendedFile(Sink):
    """Rows of images, JSONL or CSV, each one write at the end of a file that only this program writes to.

    Args:
        path: The file; half a row at its end, from a run that was killed, is cut off.
        format_name: ``jsonl`` or ``csv``.
        labels: All labels of the model.
        top_k: Predictions for each image.

    Raises:
        OutputError: Another program writes to it, it cannot be written, or it holds something else than such rows.
    """

    def __init__(self, path: Path, format_name: str, labels: Sequence[str], top_k: int) -> None:
        self._format = format_name
        self._text = io.StringIO(newline="")
        self._rows = open_sink(format_name, self._text, labels, top_k, frames=False)
        header = self._take()
        accepts = is_csv_with(header) if format_name == "csv" else is_jsonl
        self._path = path
        self._file = RotatingFile(path, header=header, accepts=accepts)

    def write(self, result: Result, image_hwc_rgb_u8: ImageU8 | None = None) -> None:
        """Append one row; a killed process leaves it whole, half of it at the end, or nothing."""
        self._rows.write(result, image_hwc_rgb_u8)
        self._file.write_line(self._take())

    def close(self) -> None:
        """Bring the rows to the disk and let others write; calling it again does nothing."""
        self._file.close()

    def key(self, source: str) -> str:
        """A source as it stands in the rows."""
        return escape(source) if self._format == "csv" else source

    def done(self, *, with_failed: bool) -> NameSet:
        """The sources, as `key` gives them, that have a row.

        Args:
            with_failed: Whether those count whose row is an error.

        Raises:
            OutputError: The file cannot be read.
        """
        read = _read_csv if self._format == "csv" else _read_jsonl
        try:
            with self._path.open("rb") as file:
                return NameSet(source for source, failed in read(file) if with_failed or not failed)
        except OSError as error:
            raise OutputError(f"{self._path}: cannot be read ({error.strerror}); choose another file") from error

    def _take(self) -> bytes:
        text = self._text.getvalue()
        self._text.seek(0)
        self._text.truncate()
        return text.encode("utf-8", errors="backslashreplace")


def _read_jsonl(file: io.BufferedReader) -> Iterator[tuple[str, bool]]:
    while line := file.readline(_LONGEST_ROW):
        try:
            record = json.loads(line)
            yield str(record["source"]), "error" in record
        except (ValueError, RecursionError, TypeError, KeyError):
            continue  # not a row of ours, so its image is not done


def _read_csv(file: io.BufferedReader) -> Iterator[tuple[str, bool]]:
    file.readline(_LONGEST_ROW)  # the header, which was compared already
    while line := file.readline(_LONGEST_ROW):
        try:
            # One by one, because no row goes over several lines, and a damaged one must not swallow the next.
            row = next(csv.reader([line.decode("utf-8", errors="replace")]))
        except (csv.Error, StopIteration):
            continue
        if row and row[0]:
            yield row[0], bool(row[-1])
