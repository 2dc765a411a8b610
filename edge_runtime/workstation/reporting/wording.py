"""Wording of reports: figures as text, and Markdown, the same in every report and on the terminal."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable, Sequence

ABSENT = "–"
NO_BREAK_SPACE = "\N{NO-BREAK SPACE}"
_MARKDOWN_SPECIALS = re.compile(r"([\\`*_\[\]|~])")
_MARKDOWN_LINE_START = re.compile(r"^(\s*)([#+=-])")


def percent(fraction: float, decimals: int = 1, *, space: str = " ") -> str:
    """Write a fraction 0..1 as ``98.4 %``."""
    return f"{100 * fraction:.{decimals}f}{space}%"


def percent_range(low: float, high: float) -> str:
    """Write two fractions 0..1 as ``96.9 to 99.2``."""
    return f"{100 * low:.1f} to {100 * high:.1f}"


def signed(value: float, decimals: int = 2) -> str:
    """Write a value with its sign, such as ``-0.40``, and zero without one."""
    rounded = round(value, decimals)
    return f"{rounded or 0:{'+' if rounded else ''}.{decimals}f}"


def significant(value: float) -> str:
    """Write about three significant digits, at most three decimals: ``0.704``, ``9.31``, ``66.1``, ``114``."""
    size = abs(value)
    decimals = 3 if size < 1 else 2 if size < 10 else 1 if size < 100 else 0
    return f"{value:.{decimals}f}"


def megabytes(count: int) -> str:
    """Write bytes as MB of 10^6, such as ``0.658 MB`` or ``66.1 MB``, and less than 0.1 MB as ``12.3 kB``."""
    return f"{significant(count / 1e6)} MB" if abs(count) >= 1e5 else f"{significant(count / 1e3)} kB"


def milliseconds(latency_ms: float) -> str:
    """Write a latency such as ``0.270 ms``; a dash where none was measured (0)."""
    return f"{significant(latency_ms)} ms" if latency_ms > 0 else ABSENT


def p_value(value: float) -> str:
    """Write a p value with two decimals, below 0.1 with three."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def counted(count: int, noun: str) -> str:
    """Write a count with its noun: ``1 image``, ``1,024 images``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def joined(names: Sequence[str], word: str = "and") -> str:
    """List names in a sentence: ``a``, ``a and b``, ``a, b and c``."""
    return f" {word} ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def one_line(text: str) -> str:
    """Replace line breaks and control characters of foreign text by single spaces."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def sentence(text: str) -> str:
    """Make one line that ends in a full stop."""
    line = one_line(text)
    return line if line.endswith((".", "!", "?")) else f"{line}."


def escape_markdown(text: str) -> str:
    """Write foreign text as plain Markdown: one line, no markup, no HTML."""
    escaped = _MARKDOWN_SPECIALS.sub(r"\\\1", html.escape(one_line(text), quote=False))
    return _MARKDOWN_LINE_START.sub(r"\1\\\2", escaped)


def markdown_list(lines: Iterable[str]) -> str:
    """Write a Markdown list of foreign text."""
    return "\n".join(f"- {escape_markdown(line)}" for line in lines)


def markdown_table(
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    text_columns: Sequence[int] = (0,),
    shown: Callable[[str], str] = escape_markdown,
) -> str:
    """Write a table with padded columns, for Markdown and for a terminal.

    Args:
        header: Names of the columns.
        rows: Cells in the order of the header.
        text_columns: Indices of the columns aligned to the left; the others are numbers.
        shown: Conversion of each cell; `one_line` for a terminal.
    """
    # A cell never begins a line, so its sign needs no backslash.
    lines = [[re.sub(r"^\\([-+])", r"\1", shown(cell)) for cell in cells] for cells in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rule = ["-" * width if i in text_columns else "-" * (width - 1) + ":" for i, width in enumerate(widths)]
    padded = [
        [cell.ljust(width) if i in text_columns else cell.rjust(width) for i, (cell, width) in enumerate(pairs)]
        for pairs in (zip(cells, widths, strict=True) for cells in lines)
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (padded[0], rule, *padded[1:]))
