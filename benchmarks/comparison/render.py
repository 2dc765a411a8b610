"""Comparison as text, Markdown and HTML page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from benchmarks.comparison.accuracy import ACCURACY
from benchmarks.comparison.metrics import COLD_START, OFFLINE
from benchmarks.comparison.record import Comparison, Difference, Outcome, SubjectComparison
from benchmarks.plan import KERAS_SUBJECTS
from benchmarks.report.files import draw_table
from benchmarks.report.tables import NOTHING, Cell, Row, Table
from edge_runtime.workstation.reporting.pages import render_html
from edge_runtime.workstation.reporting.wording import (
    ABSENT,
    counted,
    escape_markdown,
    joined,
    markdown_list,
    one_line,
    p_value,
)

_VERDICTS = {
    Outcome.REGRESSION: "WORSE",
    Outcome.UNSURE: "unsure",
    Outcome.IMPROVEMENT: "better",
    Outcome.WITHIN: "",
    Outcome.SHOWN: "not judged",
}
_COLUMNS = (OFFLINE, COLD_START, "peak memory", "file size")
_SUMMARY_NOTE = (
    "Change from the first report to the second, in brackets its 95 % interval; below 0 is lower. WORSE: significantly "
    "worse, by more than the limit; unsure: worse by more than the limit, but not significantly; better: significantly "
    "better, by more than the limit."
)
_DETAIL_COLUMNS: Mapping[str, Callable[[Difference], str]] = {
    "figure": lambda item: item.metric,
    "before": lambda item: item.shown_figure(item.before),
    "after": lambda item: item.shown_figure(item.after),
    "change": Difference.shown_change,
    "95 % interval": lambda item: item.shown_interval() or ABSENT,
    "p": lambda item: ABSENT if item.p is None else p_value(item.p),
    "verdict": lambda item: _VERDICTS[item.outcome] or "within the limit",
}


def render_text(comparison: Comparison) -> str:
    """Render for a terminal; only unprintable characters are escaped."""
    worse = [f"regression: {line}" for line in comparison.regressions]
    worse += [f"unsure: {line}" for line in comparison.unsure]
    blocks = [
        "\n".join(map(one_line, [_heading(comparison), *notices(comparison)])),
        draw_table(summary_table(comparison), one_line) if comparison.subjects else "",
        "\n".join(map(one_line, worse)),
        "\n".join(map(one_line, comparison.method)),
        conclusion(comparison),
    ]
    return "\n\n".join(block for block in blocks if block)


def render_markdown(comparison: Comparison) -> str:
    """Render ``compare.md``."""
    sections = [f"# {escape_markdown(_heading(comparison))}", escape_markdown(conclusion(comparison))]
    for title, lines in (
        ("Regressions", comparison.regressions),
        ("Perhaps worse, perhaps chance", comparison.unsure),
        ("Before you trust it", tuple(notices(comparison))),
    ):
        if lines:
            sections += [f"## {title}", markdown_list(lines)]
    if comparison.subjects:
        sections += ["## Changes", draw_table(summary_table(comparison)), escape_markdown(_SUMMARY_NOTE)]
        sections += ["## Every figure", draw_table(detail_table(comparison))]
    sections += ["## How it was compared", markdown_list(methods(comparison))]
    return "\n\n".join(sections) + "\n"


def render_page(comparison: Comparison) -> str:
    """Render ``compare.html``; its template escapes everything, since names, labels and errors come from users."""
    return render_html(
        "benchmarks.comparison",
        "compare.html",
        {
            "comparison": comparison,
            "conclusion": conclusion(comparison),
            "notices": list(notices(comparison)),
            "methods": methods(comparison),
            "summary": summary_table(comparison),
            "detail": detail_table(comparison),
        },
    )


def conclusion(comparison: Comparison) -> str:
    """Summarise the comparison in one sentence."""
    limits = comparison.limits
    points = "point" if limits.max_drop_points == 1 else "points"
    allowed = (
        f"{limits.max_drop_points:g} percentage {points} of accuracy, {100 * limits.max_slowdown:g} % of time, "
        f"{100 * limits.max_growth:g} % of size and memory"
    )
    if comparison.regressions:
        return f"{counted(len(comparison.regressions), 'regression')} (allowed: {allowed})."
    unsure = f"; {counted(len(comparison.unsure), 'figure')} may be" if comparison.unsure else ""
    return f"No regression: no compared metric is significantly worse by more than allowed ({allowed}){unsure}."


def notices(comparison: Comparison) -> Iterable[str]:
    """List differences of the circumstances, and what was not compared."""
    yield from comparison.differences
    yield from (f"Not compared: {item.what} ({item.reason.rstrip('.')})." for item in comparison.not_compared)
    for subject in comparison.subjects:
        yield from (f"{subject.name}: {note}." for note in subject.notes)
        yield from (
            f"Not compared: {item.what} of {subject.name} ({item.reason.rstrip('.')})." for item in subject.not_compared
        )
    for side, alone in ((comparison.before, comparison.only_before), (comparison.after, comparison.only_after)):
        yield from (f"Only in {side.name}: {item.name} ({item.reason.rstrip('.')})." for item in alone)
    yield from (f"Measured in neither: {item.name} ({item.reason.rstrip('.')})." for item in comparison.in_neither)


def methods(comparison: Comparison) -> list[str]:
    """List the methods of the comparison: in general, then metric by metric."""
    how: dict[str, list[str]] = {}
    for subject in comparison.subjects:
        for item in subject.differences:
            metrics = how.setdefault(item.method, [])
            metrics += [item.metric] if item.metric not in metrics else []
    return [*comparison.method, *(f"{joined(metrics)}: {method}." for method, metrics in how.items())]


def summary_table(comparison: Comparison) -> Table:
    """Build the table with one row a model and one column a kind of metric."""
    columns: tuple[tuple[str, Callable[[Difference], bool]], ...] = (
        ("accuracy", lambda item: item.metric == ACCURACY),
        # The first metric of latency is the one that is judged.
        ("latency", lambda item: item.metric.startswith("p50")),
        *((name, lambda item, name=name: item.metric == name) for name in _COLUMNS),
    )
    rows = [
        Row((Cell(subject.name), *(_change_cell(subject, is_wanted) for _, is_wanted in columns)), _kind(subject))
        for subject in comparison.subjects
    ]
    return Table(("model", *(name for name, _ in columns)), tuple(rows), _SUMMARY_NOTE)


def detail_table(comparison: Comparison) -> Table:
    """Build the table with one row a metric of a model."""
    rows = tuple(
        Row(
            (Cell(subject.name), *(Cell(text(item)) for text in _DETAIL_COLUMNS.values())),
            "failed" if item.outcome is Outcome.REGRESSION else "",
        )
        for subject in comparison.subjects
        for item in subject.differences
    )
    return Table(("model", *_DETAIL_COLUMNS), rows, text_columns=(0, 1, 7))


def _heading(comparison: Comparison) -> str:
    names = [f"{side.name} ({side.created_utc})" for side in (comparison.after, comparison.before)]
    return " against ".join(names)


def _kind(subject: SubjectComparison) -> str:
    if subject.name in KERAS_SUBJECTS:
        return "keras"
    return "failed" if any(item.outcome is Outcome.REGRESSION for item in subject.differences) else ""


def _change_cell(subject: SubjectComparison, is_wanted: Callable[[Difference], bool]) -> Cell:
    item = next(filter(is_wanted, subject.differences), None)
    if item is None:
        return NOTHING
    word = "" if subject.name in KERAS_SUBJECTS else _VERDICTS[item.outcome]
    return Cell(f"{item.shown_change()} {word}".rstrip(), item.shown_interval())
