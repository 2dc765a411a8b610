"""Files of a report directory: JSON, Markdown, page, latencies and answers; and the table for a terminal."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from benchmarks.records import ANSWERS_FILE, LATENCIES_FILE, MARKDOWN_FILE, PAGE_FILE, REPORT_FILE, Answers, Report
from benchmarks.report.facts import NO_CAVEATS, caveats, facts_of
from benchmarks.report.tables import SECTIONS, Cell, Table, main_table, terminal_table
from edge_runtime.contract import InputSpec
from edge_runtime.text import csv_text
from edge_runtime.workstation.reporting.wording import escape_markdown, markdown_list, markdown_table, one_line


def write_report(
    folder: Path,
    report: Report,
    latencies_ms: Mapping[str, Sequence[Sequence[float]]],
    answers: Answers,
    spec: InputSpec | None = None,
) -> None:
    """Write all files of a report directory.

    Args:
        folder: Empty directory to fill.
        report: Report to write.
        latencies_ms: Every timed single-stream call by subject, round by round.
        answers: Answers of all models.
        spec: Geometry of the model, needed to show images of bare bytes.
    """
    from benchmarks.report.page import read_tiles, render_page

    texts = {
        REPORT_FILE: report.to_json(),
        MARKDOWN_FILE: render_markdown(report),
        PAGE_FILE: render_page(report, latencies_ms, read_tiles(report, spec)),
    }
    for name, text in texts.items():
        # File names of Linux may be bytes that are not text; JSON and CSV keep them unchanged.
        (folder / name).write_text(text, encoding="utf-8", errors="surrogateescape")
    # Rounds and calls count from 0, and a round is the same period for all subjects.
    rows = (
        (subject, number, call, f"{latency_ms:.6f}")
        for subject, bursts in latencies_ms.items()
        for number, burst in enumerate(bursts)
        for call, latency_ms in enumerate(burst)
    )
    _write_csv(folder / LATENCIES_FILE, ("subject", "round", "call", "latency_ms"), rows)
    write_answers(folder / ANSWERS_FILE, answers)


def write_answers(path: Path, answers: Answers) -> None:
    """Write one row per image, one column per subject.

    Everything but numbers is quoted; a name such as ``=1.jpg``, which a spreadsheet would run, becomes ``'=1.jpg``.
    """
    columns = [map(csv_text, column) for column in (answers.files, answers.truth, *answers.by_subject.values())]
    _write_csv(path, ("file", "label", *answers.by_subject), zip(*columns, strict=True))


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        writer.writerow(columns)
        writer.writerows(rows)


def render_markdown(report: Report) -> str:
    """Render ``report.md``."""
    parts = [f"# Benchmark of {escape_markdown(report.model_name)}", escape_markdown(report.verdict.text)]
    parts += _with_note(main_table(report))
    parts += ["## Before you quote a figure", markdown_list(caveats(report) or [NO_CAVEATS])]
    for title, build in SECTIONS:
        table = build(report)
        if table is not None:
            parts += [f"## {title}", *_with_note(table)]
    for title, facts in facts_of(report):
        parts += [f"## {title}", markdown_list(f"{name}: {text}" for name, text in facts)]
    return "\n\n".join(part for part in parts if part) + "\n"


def render_table(report: Report) -> str:
    """Render the table for a terminal: fewer columns, and only unprintable characters replaced."""
    return draw_table(terminal_table(report), one_line)


def _with_note(table: Table) -> list[str]:
    return [draw_table(table), escape_markdown(table.note)]


def draw_table(table: Table, shown: Callable[[str], str] = escape_markdown) -> str:
    """Draw a table, each cell with its small text and its doubt in brackets; ``shown`` converts the texts."""

    def text(cell: Cell) -> str:
        aside = ", ".join(filter(None, (cell.small, cell.doubt)))
        return f"{cell.text} ({aside})" if aside else cell.text

    rows = [[text(cell) for cell in row.cells] for row in table.rows]
    return markdown_table(table.header, rows, text_columns=table.text_columns, shown=shown)
