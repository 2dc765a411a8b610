"""Skip images that an earlier run finished (``--skip-done``), by the rows of its output file."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

from edge_runtime.errors import OutputError
from edge_runtime.sources.images import NameSet
from edge_runtime.text import csv_plain, escape

_MAX_ROW_BYTES = 1 << 24


def new_source_filter(
    path: Path, format_name: str, *, retry_failed: bool, on_skip: Callable[[], None]
) -> Callable[[str], bool]:
    """Make the test that a source has no row yet; a source counts as done from its first test on.

    Args:
        path: Output file of an earlier run, without a partial row at its end.
        format_name: ``jsonl`` or ``csv``.
        retry_failed: True to repeat images whose row is an error.
        on_skip: Called for each source that is done.

    Raises:
        OutputError: The file cannot be read.
    """
    read = _read_csv if format_name == "csv" else _read_jsonl
    try:
        with path.open("rb") as file:
            done = NameSet(source for source, failed in read(file) if not (failed and retry_failed))
    except OSError as error:
        raise OutputError(f"{path}: cannot be read ({error.strerror}); choose another file") from error

    def is_new(source: str) -> bool:
        new = done.add(escape(source) if format_name == "csv" else source)
        if not new:
            on_skip()
        return new

    return is_new


def _read_jsonl(file: io.BufferedReader) -> Iterator[tuple[str, bool]]:
    """Yield source and failure of each row."""
    while line := file.readline(_MAX_ROW_BYTES):
        try:
            record = json.loads(line)
            yield str(record["source"]), "error" in record
        except (ValueError, RecursionError, TypeError, KeyError):
            continue  # not a row of this program, so its image is not done


def _read_csv(file: io.BufferedReader) -> Iterator[tuple[str, bool]]:
    """Yield source and failure of each row after the header, which `FileSink` has compared."""
    file.readline(_MAX_ROW_BYTES)
    while line := file.readline(_MAX_ROW_BYTES):
        try:
            # Line by line, because no row has several lines, and a damaged one must not swallow the next.
            row = next(csv.reader([line.decode("utf-8", errors="replace")]))
        except (csv.Error, StopIteration):
            continue
        if row and row[0]:
            yield csv_plain(row[0]), bool(row[-1])
