"""A table as data: Markdown and the page draw the same cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.plan import KERAS_SUBJECTS
from benchmarks.records.performance import Performance, SubjectResult
from benchmarks.records.report import Report
from benchmarks.report.wording import ABSENT, significant


@dataclass(frozen=True)
class Cell:
    """Plain text, to be escaped by whoever draws it, and what goes with it in small, such as its interval."""

    text: str
    small: str = ""


NOTHING = Cell(ABSENT)


@dataclass(frozen=True)
class Row:
    """Cells, and what the row is: ``keras``, ``failed``, ``chosen`` (by the verdict) or nothing of these."""

    cells: tuple[Cell, ...]
    kind: str = ""


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        header: Name of each column, with its unit.
        rows: As many cells each.
        note: What the reader must know to read it; may be empty.
        text_columns: Columns that hold words, the first one always.
    """

    header: tuple[str, ...]
    rows: tuple[Row, ...]
    note: str = ""
    text_columns: tuple[int, ...] = (0,)


def is_keras(subject: SubjectResult) -> bool:
    """Whether it is the full model."""
    return subject.name in KERAS_SUBJECTS


def optional(value: float | None) -> Cell:
    """A figure that may not be there."""
    return NOTHING if value is None else Cell(significant(value))


def measured(report: Report) -> list[tuple[SubjectResult, Performance]]:
    """The subjects with figures."""
    return [(subject, subject.performance) for subject in report.subjects if subject.performance is not None]


def row_of(report: Report, subject: SubjectResult, cells: Sequence[Cell]) -> Row:
    """A row that begins with the subject's name."""
    kind = (
        "failed"
        if subject.performance is None
        else "keras"
        if is_keras(subject)
        else "chosen"
        if subject.name == report.verdict.variant
        else ""
    )
    return Row((Cell(subject.name), *cells), kind)


def without_empty_columns(table: Table) -> Table:
    """The table without the columns in which no row has anything."""
    kept = [
        index
        for index in range(len(table.header))
        if index == 0 or any(row.cells[index] != NOTHING for row in table.rows)
    ]
    return Table(
        tuple(table.header[index] for index in kept),
        tuple(Row(tuple(row.cells[index] for index in kept), row.kind) for row in table.rows),
        table.note,
        tuple(kept.index(index) for index in table.text_columns if index in kept),
    )
