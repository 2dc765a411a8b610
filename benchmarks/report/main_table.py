"""The table that decides: one row a model."""

from __future__ import annotations

from benchmarks.records.performance import Performance, SubjectResult
from benchmarks.records.report import Report
from benchmarks.report.table import NOTHING, Cell, Row, Table, optional, row_of, without_empty_columns
from benchmarks.report.wording import megabytes, p_value, percent, percent_range, signed, significant, span

_MAIN_HEADER = (
    "model",
    "accuracy",
    "top-5",
    "agrees with Keras",
    "against Keras, points",
    "McNemar p",
    "size",
    "p50, ms",
    "p90, ms",
    "p99, ms",
    "cold start",
    "peak memory",
    "speed-up",
)
_MAIN_NOTE = (
    "Beside a figure: its 95 % interval. Against Keras: accuracy less that of Keras on the same pictures; McNemar p is "
    "how often chance alone makes such a difference between two equally good models. Speed-up is against "
    "keras-function, round by round."
)
_TERMINAL_COLUMNS = (
    "model",
    "accuracy",
    "against Keras, points",
    "size",
    "p50, ms",
    "p99, ms",
    "cold start",
    "peak memory",
    "speed-up",
)


def main_table(report: Report) -> Table:
    """One row a subject with everything that decides."""
    rows = tuple(row_of(report, subject, _main_cells(subject)) for subject in report.subjects)
    return without_empty_columns(Table(_MAIN_HEADER, rows, _MAIN_NOTE))


def terminal_table(report: Report) -> Table:
    """The columns of `main_table` that a terminal has room for; of the intervals only that of the accuracy."""
    table = main_table(report)
    kept = [index for index, name in enumerate(table.header) if name in _TERMINAL_COLUMNS]
    accuracy = table.header.index("accuracy") if "accuracy" in table.header else -1
    rows = [
        Row(tuple(row.cells[i] if i == accuracy else Cell(row.cells[i].text) for i in kept), row.kind)
        for row in table.rows
    ]
    return Table(tuple(table.header[index] for index in kept), tuple(rows))


def _main_cells(subject: SubjectResult) -> tuple[Cell, ...]:
    size = Cell(megabytes(subject.bytes)) if subject.bytes else NOTHING
    figures = subject.performance
    if figures is None:
        return (Cell("not measured"), *[NOTHING] * 4, size, *[NOTHING] * 6)
    latency, speedup = figures.single_stream.latency, figures.single_stream.speedup
    peak = figures.resources.peak_memory_bytes
    return (
        *_accuracy_cells(figures),
        size,
        Cell(significant(latency.p50_ms), span(latency.p50_interval_ms)),
        Cell(significant(latency.p90_ms)),
        optional(latency.p99_ms),
        Cell(f"{figures.cold_start.median_ms / 1000:.2f} s"),
        NOTHING if peak is None else Cell(megabytes(peak)),
        NOTHING if speedup is None else Cell(f"{significant(speedup.median)}x", span(speedup.interval)),
    )


def _accuracy_cells(figures: Performance) -> tuple[Cell, ...]:
    top1, top5, against = figures.accuracy.top1, figures.accuracy.top5, figures.against_keras
    cells = (
        Cell(percent(top1.fraction), percent_range(top1)),
        NOTHING if top5 is None else Cell(percent(top5.fraction), percent_range(top5)),
    )
    if against is None:
        return (*cells, NOTHING, NOTHING, NOTHING)
    interval = against.drop_interval_points
    return (
        *cells,
        Cell(percent(against.agreement.fraction)),
        Cell(signed(-against.drop_points), f"{signed(-interval.high)} to {signed(-interval.low)}"),
        Cell(p_value(against.mcnemar_p)),
    )
