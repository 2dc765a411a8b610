"""``edge-bench compare`` as one plain function: two reports in, text out, an exit code back."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.comparison.difference import compare_reports
from benchmarks.comparison.files import load_report
from benchmarks.comparison.known import find_report
from benchmarks.comparison.page import render_page
from benchmarks.comparison.record import Comparison, Limits
from benchmarks.comparison.render import render_markdown, render_text
from benchmarks.plan import KERAS_FUNCTION
from edge_runtime.atomic import atomic_directory, check_free
from edge_runtime.errors import ComparisonError, GateError

COMPARISON_FILE = "compare.json"
MARKDOWN_FILE = "compare.md"
PAGE_FILE = "compare.html"


class Format(str, enum.Enum):
    """What is printed."""

    TABLE = "table"
    MARKDOWN = "markdown"
    JSON = "json"


@dataclass(frozen=True)
class CompareConfig:
    """The command line of ``edge-bench compare``.

    Attributes:
        before: A report directory, a ``report.json``, or ``reference:NAME``.
        after: The same.
        limits: How much worse the second may be.
        reference: The model that shows how fast the machine was.
        strict: Whether it is an error where anything of the first report was not compared.
        format: What is printed.
        out: Where ``compare.json``, ``compare.md`` and ``compare.html`` are written, or None.
        overwrite: Whether an existing directory is replaced.
    """

    before: str
    after: str
    limits: Limits = field(default_factory=Limits)
    reference: str = KERAS_FUNCTION
    strict: bool = False
    format: Format = Format.TABLE
    out: Path | None = None
    overwrite: bool = False


def run_compare(config: CompareConfig) -> tuple[str, int]:
    """Compare two reports.

    Returns:
        What is to be printed, and the exit code: 0, or that of `GateError` where something is surely worse by more than
        the limits allow, or that of `ComparisonError` where ``strict`` wants all compared and it was not.

    Raises:
        EdgeKitError: A report cannot be read, is marked invalid, or the directory cannot be written.
    """
    if config.out is not None:
        check_free(config.out, overwrite=config.overwrite, marker=COMPARISON_FILE)
    before, after = (load_report(find_report(name)) for name in (config.before, config.after))
    comparison = compare_reports(
        before.report,
        after.report,
        before.answers,
        after.answers,
        config.limits,
        names=(config.before, config.after),
        reference=config.reference,
    )
    if config.out is not None:
        _write(config.out, comparison, overwrite=config.overwrite)
    return _shown(comparison, config.format), _exit_code(comparison, strict=config.strict)


def _shown(comparison: Comparison, chosen: Format) -> str:
    if chosen is Format.JSON:
        return comparison.to_json().rstrip("\n")
    return (render_markdown(comparison) if chosen is Format.MARKDOWN else render_text(comparison)).rstrip("\n")


def _exit_code(comparison: Comparison, *, strict: bool) -> int:
    if comparison.regressions:
        return GateError.exit_code
    return ComparisonError.exit_code if strict and not comparison.is_whole else 0


def _write(out: Path, comparison: Comparison, *, overwrite: bool) -> None:
    texts = {
        COMPARISON_FILE: comparison.to_json(),
        MARKDOWN_FILE: render_markdown(comparison),
        PAGE_FILE: render_page(comparison),
    }
    with atomic_directory(out, marker=COMPARISON_FILE, overwrite=overwrite) as folder:
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8", errors="replace")
