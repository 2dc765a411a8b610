"""Report as Markdown, and its main table for a terminal."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.records import Report
from benchmarks.report import facts
from benchmarks.report.facts import caveats
from benchmarks.report.tables import (
    Table,
    camera_table,
    cold_start_table,
    latency_table,
    main_table,
    moved_table,
    per_label_table,
    resources_table,
    scores_table,
    stages_table,
    terminal_table,
    threads_table,
    throughput_table,
)
from edge_runtime.workstation.reporting.wording import escape_markdown, markdown_list, markdown_table, one_line

NO_CAVEATS = "Nothing: every model was measured on every image, and the machine was quiet."
_SECTIONS = (
    ("Latency", latency_table),
    ("Throughput", throughput_table),
    ("Camera", camera_table),
    ("Stages", stages_table),
    ("Cold start", cold_start_table),
    ("Threads", threads_table),
    ("Memory, processor time and size", resources_table),
    ("Scores", scores_table),
    ("By label", per_label_table),
    ("Where errors moved", moved_table),
)


def render_markdown(report: Report) -> str:
    """The whole of ``report.md``."""
    sections = [f"# Benchmark of {escape_markdown(report.model_name)}", escape_markdown(report.verdict.text)]
    sections += _tabled(main_table(report))
    sections += ["## Before you quote a figure", markdown_list(caveats(report) or [NO_CAVEATS])]
    for title, build in _SECTIONS:
        table = build(report)
        if table is not None:
            sections += [f"## {title}", *_tabled(table)]
    for title, found in (
        ("How it was measured", facts.method(report)),
        ("Images", facts.images(report)),
        ("Machine", facts.machine(report)),
        ("Reproduce", facts.reproduction(report)),
    ):
        sections += [f"## {title}", markdown_list(f"{name}: {text}" for name, text in found)]
    return "\n\n".join(section for section in sections if section) + "\n"


def render_table(report: Report) -> str:
    """The table for a terminal: fewer columns, and nothing escaped but what is no printable character."""
    return draw_table(terminal_table(report), one_line)


def _tabled(table: Table) -> list[str]:
    return [draw_table(table), escape_markdown(table.note)]


def draw_table(table: Table, shown: Callable[[str], str] = escape_markdown) -> str:
    """Draw a table, each cell with its small figure in brackets; ``shown`` converts the texts for where they go."""
    rows = [[f"{cell.text} ({cell.small})" if cell.small else cell.text for cell in row.cells] for row in table.rows]
    return markdown_table(table.header, rows, text_columns=table.text_columns, shown=shown)
