"""Report as Markdown, and its main table for a terminal."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable, Sequence

from benchmarks.records import Report
from benchmarks.report import facts
from benchmarks.report.facts import caveats
from benchmarks.report.tables import (
    Cell,
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
from benchmarks.report.wording import one_line

NO_CAVEATS = "Nothing: every model was measured on every image, and the machine was quiet."
_SPECIALS = re.compile(r"([\\`*_\[\]|~])")
_LINE_START = re.compile(r"^(\s*)([#+=-])")
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
    sections = [f"# Benchmark of {escape(report.model_name)}", escape(report.verdict.text)]
    sections += _tabled(main_table(report))
    sections += ["## Before you quote a figure", _bullets(map(escape, caveats(report) or [NO_CAVEATS]))]
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
        sections += [f"## {title}", _bullets(f"{escape(name)}: {escape(text)}" for name, text in found)]
    return "\n\n".join(section for section in sections if section) + "\n"


def render_table(report: Report) -> str:
    """The table for a terminal: fewer columns, and nothing escaped but what is no printable character."""
    return draw_table(terminal_table(report), one_line)


def escape(text: str) -> str:
    """Text of a person or a file system as plain Markdown: one line, no markup, no HTML."""
    escaped = _SPECIALS.sub(r"\\\1", html.escape(one_line(text), quote=False))
    return _LINE_START.sub(r"\1\\\2", escaped)


def _tabled(table: Table) -> list[str]:
    return [draw_table(table), escape(table.note)]


def draw_table(table: Table, shown: Callable[[str], str] = escape) -> str:
    """A table with padded columns; ``shown`` makes each text fit for where it goes."""
    rows = [tuple(map(shown, table.header)), *(tuple(_cell(cell, shown) for cell in row.cells) for row in table.rows)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(table.header))]
    drawn = [_line([_pad(cell, widths[i], i in table.text_columns) for i, cell in enumerate(row)]) for row in rows]
    rule = _line(
        ["-" * width if i in table.text_columns else "-" * (width - 1) + ":" for i, width in enumerate(widths)]
    )
    return "\n".join([drawn[0], rule, *drawn[1:]])


def _cell(cell: Cell, shown: Callable[[str], str]) -> str:
    # A cell never begins a line, so its sign needs no backslash.
    text, small = (
        shown(part).removeprefix("\\") if part[:1] in "+-" else shown(part) for part in (cell.text, cell.small)
    )
    return f"{text} ({small})" if small else text


_lines = draw_table


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _pad(cell: str, width: int, is_text: bool) -> str:
    return cell.ljust(width) if is_text else cell.rjust(width)


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
