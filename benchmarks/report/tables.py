"""Tables of a report: the main one, accuracy and performance, each declared by its columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from benchmarks.records import LabelShare, Performance, Report, SubjectResult
from benchmarks.statistics import Interval, Share
from edge_runtime.workstation.reporting.wording import (
    ABSENT,
    counted,
    megabytes,
    p_value,
    percent,
    percent_range,
    signed,
    significant,
)

ALLOWED_DROP_POINTS = 1.0
"""Largest accuracy loss of a recommended variant against Keras, or without Keras against the most accurate one."""

SIGNIFICANT_P = 0.05
TOO_FEW = "too few images to tell"
FEW_IMAGES = 20
MOST_LABELS = 20
MOST_MOVED = 30


@dataclass(frozen=True)
class Cell:
    """Plain text, not escaped yet, a small text beside it, such as its interval, and a doubt about it."""

    text: str
    small: str = ""
    doubt: str = ""


NOTHING = Cell(ABSENT)


@dataclass(frozen=True)
class Row:
    """Cells, and the kind of the row: ``keras``, ``failed``, ``chosen`` (by the verdict) or empty."""

    cells: tuple[Cell, ...]
    kind: str = ""


@dataclass(frozen=True)
class Table:
    """Named columns, rows with one cell per column, a note below, and the indices of the columns that hold words."""

    header: tuple[str, ...]
    rows: tuple[Row, ...]
    note: str = ""
    text_columns: tuple[int, ...] = (0,)

    def only(self, columns: Iterable[int]) -> Table:
        """Keep some of the columns, by index."""
        kept = list(columns)
        return Table(
            tuple(self.header[index] for index in kept),
            tuple(Row(tuple(row.cells[index] for index in kept), row.kind) for row in self.rows),
            self.note,
            tuple(kept.index(index) for index in self.text_columns if index in kept),
        )


Columns = Mapping[str, Callable[[Any], Cell]]
"""Cell of a row by column name; each function takes the figures of the row."""


def span(interval: Interval | None) -> str:
    """Write an interval as ``0.51 to 0.53``; empty without one."""
    return "" if interval is None else f"{significant(interval.low)} to {significant(interval.high)}"


def is_undecided(figures: Performance) -> bool:
    """Tell whether there are too few images to say on which side of the allowed loss an artifact is.

    Against Keras, if the interval of the loss has the limit inside, unless McNemar's test finds a loss; else with fewer
    than `FEW_IMAGES` images.
    """
    against = figures.against_keras
    if against is None:
        return figures.accuracy.top1.total < FEW_IMAGES
    if against.lost > against.gained and against.mcnemar_p < SIGNIFICANT_P:
        return False
    return against.drop_interval_points.low <= ALLOWED_DROP_POINTS < against.drop_interval_points.high


def _number(value: float | None, interval: Interval | None = None) -> Cell:
    return NOTHING if value is None else Cell(significant(value), span(interval))


def _doubted(figures: Performance, cell: Cell, *, wanted: bool = True) -> Cell:
    return replace(cell, doubt=TOO_FEW) if wanted and is_undecided(figures) else cell


def _whole(value_ms: float) -> Cell:
    return Cell(f"{value_ms:.0f}")


def _share(share: Share | None) -> Cell:
    return NOTHING if share is None else Cell(percent(share.fraction), percent_range(share.low, share.high))


def _size(count: int | None) -> Cell:
    return NOTHING if not count else Cell(megabytes(count))


def _if_any(value: Any, cell: Callable[[Any], Cell]) -> Cell:
    return NOTHING if value is None else cell(value)


def _row(report: Report, subject: SubjectResult, cells: Iterable[Cell]) -> Row:
    """Make a row that begins with the subject's name."""
    kind = "chosen" if subject.name == report.verdict.variant else ""
    if subject.performance is None:
        kind = "failed"
    elif subject.is_keras:
        kind = "keras"
    return Row((Cell(subject.name), *cells), kind)


def _table(report: Report, part: str | None, columns: Columns, note: str) -> Table | None:
    """Make a table with one row per measured subject that has the part; None without rows, and no empty columns."""
    parts = [(subject, getattr(figures, part) if part else figures) for subject, figures in report.measured()]
    rows = [_row(report, subject, [cell(found) for cell in columns.values()]) for subject, found in parts if found]
    return _without_empty_columns(Table(("model", *columns), tuple(rows), note)) if rows else None


def _without_empty_columns(table: Table) -> Table:
    columns = range(len(table.header))
    return table.only(index for index in columns if not index or any(row.cells[index] != NOTHING for row in table.rows))


_TERMINAL_COLUMNS = (
    *("model", "accuracy", "against Keras, points", "size", "p50, ms", "p99, ms"),
    *("cold start", "peak memory", "speed-up"),
)
_MAIN_COLUMNS: Columns = {
    "accuracy": lambda one: _doubted(one, _share(one.accuracy.top1), wanted=one.against_keras is None),
    "top-5": lambda one: _share(one.accuracy.top5),
    "agrees with Keras": lambda one: _if_any(one.against_keras, lambda own: Cell(percent(own.agreement.fraction))),
    "against Keras, points": lambda one: _if_any(
        one.against_keras,
        lambda own: _doubted(
            one,
            Cell(
                signed(-own.drop_points),
                f"{signed(-own.drop_interval_points.high)} to {signed(-own.drop_interval_points.low)}",
            ),
        ),
    ),
    "McNemar p": lambda one: _if_any(one.against_keras, lambda own: Cell(p_value(own.mcnemar_p))),
    "size": lambda _: NOTHING,  # of the subject, not of its figures
    "p50, ms": lambda one: _number(one.single_stream.latency.p50_ms, one.single_stream.latency.p50_interval_ms),
    "p90, ms": lambda one: _number(one.single_stream.latency.p90_ms),
    "p99, ms": lambda one: _number(one.single_stream.latency.p99_ms),
    "cold start": lambda one: Cell(f"{one.cold_start.median_ms / 1000:.2f} s"),
    "peak memory": lambda one: _size(one.resources.peak_memory_bytes),
    "speed-up": lambda one: _if_any(
        one.single_stream.speedup, lambda ratio: Cell(f"{significant(ratio.median)}x", span(ratio.interval))
    ),
}


def main_table(report: Report) -> Table:
    """Make the main table: one row per subject with the figures that decide."""

    def cell(subject: SubjectResult, name: str) -> Cell:
        if name == "size":
            return _size(subject.bytes)
        if subject.performance is None:
            return Cell("not measured") if name == "accuracy" else NOTHING
        return _MAIN_COLUMNS[name](subject.performance)

    rows = [_row(report, subject, [cell(subject, name) for name in _MAIN_COLUMNS]) for subject in report.subjects]
    note = (
        "Beside a figure: its 95 % interval. Against Keras: accuracy minus that of Keras on the same images; McNemar p "
        "is the probability of such a difference between two equally good models. Speed-up is against keras-function, "
        "round by round."
    )
    return _without_empty_columns(Table(("model", *_MAIN_COLUMNS), tuple(rows), note))


def terminal_table(report: Report) -> Table:
    """Make the main table for a terminal: fewer columns, and only the interval of the accuracy."""
    table = main_table(report)
    table = table.only(index for index, name in enumerate(table.header) if name in _TERMINAL_COLUMNS)
    rows = [
        Row(
            tuple(
                cell if name == "accuracy" else Cell(cell.text)
                for name, cell in zip(table.header, row.cells, strict=True)
            ),
            row.kind,
        )
        for row in table.rows
    ]
    return replace(table, rows=tuple(rows), note="")


_FIGURE_TABLES: Mapping[str, tuple[str | None, Columns, str]] = {
    "Latency": (
        "single_stream",
        {
            "calls": lambda one: Cell(f"{one.latency.queries:,}", f"{one.duration_s:.1f} s"),
            "least, ms": lambda one: _number(one.latency.minimum_ms),
            "p50, ms": lambda one: _number(one.latency.p50_ms, one.latency.p50_interval_ms),
            "p90, ms": lambda one: _number(one.latency.p90_ms),
            "p95, ms": lambda one: _number(one.latency.p95_ms),
            "p99, ms": lambda one: _number(one.latency.p99_ms),
            "p99.9, ms": lambda one: _number(one.latency.p99_9_ms),
            "most, ms": lambda one: _number(one.latency.maximum_ms),
            "disturbed": lambda one: _if_any(one.waiting, lambda share: Cell(percent(share))),
        },
        "Single stream: one prepared image after another. p99 needs 100 calls, p99.9 a thousand. Disturbed: share of "
        "the timed calls during which another program had the CPU.",
    ),
    "Stages": (
        "stages",
        {
            "decode, ms": lambda one: _number(one.decode_ms),
            "preprocess, ms": lambda one: _number(one.preprocess_ms),
            "invoke, ms": lambda one: _number(one.invoke_ms),
            "postprocess, ms": lambda one: _number(one.postprocess_ms),
            "sum, ms": lambda one: _number(one.decode_ms + one.preprocess_ms + one.invoke_ms + one.postprocess_ms),
            "images": lambda one: Cell(str(one.images)),
        },
        "Median of each stage, one image file after another.",
    ),
    "Cold start": (
        "cold_start",
        {
            "starts": lambda one: Cell(str(len(one.samples_ms))),
            "median, ms": lambda one: _whole(one.median_ms),
            "Python, ms": lambda one: _whole(one.interpreter_ms),
            "import, ms": lambda one: _whole(one.import_ms),
            "load, ms": lambda one: _whole(one.load_ms),
            "first answer, ms": lambda one: _whole(one.first_ms),
            "warm, ms": lambda one: _number(one.steady_ms),
        },
        "Time from the start of the process to its first answer for one image file. Median of several starts, so the "
        "libraries are in the page cache; warm: the same image file once everything runs.",
    ),
    "Throughput": (
        "offline",
        {
            "images per second": lambda one: _number(one.images_per_s, one.interval_images_per_s),
            "workers": lambda one: Cell(str(one.workers)),
            "CPU ms per image": lambda one: _number(1e3 * one.cpu_s_per_image),
            "images": lambda one: Cell(f"{one.images:,}"),
        },
        "All image files at once, as edge-run classify does with a folder: decode, prepare, invoke and the rest.",
    ),
    "Camera": (
        "camera",
        {
            "camera": lambda one: Cell(f"{one.fps:g} fps", "x".join(map(str, one.size_wh))),
            "frames": lambda one: Cell(str(one.frames)),
            "answered": lambda one: Cell(str(one.answered)),
            "dropped": lambda one: Cell(str(one.dropped)),
            "age p50, ms": lambda one: _number(one.age_p50_ms),
            "age p99, ms": lambda one: _number(one.age_p99_ms),
        },
        "Age: time from the capture of a frame to its answer. Dropped: skipped because a newer frame was there.",
    ),
    "Scores": (
        None,
        {
            "calibration error": lambda one: Cell(percent(one.accuracy.calibration_error)),
            "reject threshold": lambda one: _if_any(one.accuracy.reject, lambda own: Cell(f"{own.threshold:.2f}")),
            "answered": lambda one: _if_any(one.accuracy.reject, lambda own: _share(own.answered)),
            "right of these": lambda one: _if_any(one.accuracy.reject, lambda own: _share(own.right_of_answered)),
            "only Keras right": lambda one: _if_any(one.against_keras, lambda own: Cell(str(own.lost))),
            "only this right": lambda one: _if_any(one.against_keras, lambda own: Cell(str(own.gained))),
        },
        "Calibration error: mean distance of a score from the share of right answers with such a score. "
        "Answers below the reject threshold count as none of the labels. The last columns count images.",
    ),
}
"""Part of the figures, columns and note of each table with one row per measured subject, by title."""


def figure_table(title: str, report: Report) -> Table | None:
    """Make the table of one part of the figures, by its title; None without figures."""
    return _table(report, *_FIGURE_TABLES[title])


def threads_table(report: Report) -> Table | None:
    """Make the table of the latency by threads inside one inference, or None if that was not swept."""
    counts = sorted({point.threads for _, figures in report.measured() for point in figures.threads})

    def column(count: int) -> Callable[[Any], Cell]:
        def cell(points: Any) -> Cell:
            return next((_number(one.p50_ms, one.interval_ms) for one in points if one.threads == count), NOTHING)

        return cell

    columns = {counted(count, "thread"): column(count) for count in counts}
    return _table(report, "threads", columns, "p50 of one prepared image, in ms.")


def resources_table(report: Report) -> Table | None:
    """Make the table of memory, CPU time, size and energy, or None without figures."""
    sizes = {id(figures): subject.bytes for subject, figures in report.measured()}
    columns: Columns = {
        "peak memory": lambda one: _size(one.resources.peak_memory_bytes),
        "steady memory": lambda one: _size(one.resources.steady_memory_bytes),
        "CPU ms per inference": lambda one: _number(one.resources.cpu_ms_per_inference),
        "file": lambda one: _size(sizes[id(one)]),
        "installed packages": lambda one: _size(one.resources.install_bytes),
        "energy per inference, mJ": lambda one: _number(one.resources.energy_mj_per_inference),
    }
    note = (
        "Resident memory of the process that started, classified one image file and made the timed calls. "
        "MB are 10^6 bytes. Installed packages: disk space of the packages needed to run it."
    )
    if report.board.power_meter is not None:
        note += " Energy is above idle."
    return _table(report, None, columns, note)


def per_label_table(report: Report) -> Table | None:
    """Make the table of recall by label: largest losses against Keras first; without Keras, lowest recall first."""
    # One Keras is enough: its ways of being called do not differ in their answers.
    keras = [pair for pair in report.measured() if pair[0].is_keras][:1]
    shown = keras + [pair for pair in report.measured() if not pair[0].is_keras]
    recalls = {subject.name: {item.label: item for item in figures.accuracy.per_label} for subject, figures in shown}
    labels = list(dict.fromkeys(label for by_label in recalls.values() for label in by_label))
    if not labels:
        return None
    reference = keras[0][0].name if keras else None
    ranked = sorted(labels, key=lambda label: _badness(label, recalls, reference), reverse=True)[:MOST_LABELS]
    rows = []
    for label in ranked:
        found = [by_label.get(label) for by_label in recalls.values()]
        total = next(item.share.total for item in found if item is not None)
        recall = [_share(item.share if item else None) for item in found]
        rows.append(Row((Cell(label), Cell(str(total)), *recall)))
    order = "Labels that lost most against Keras first." if reference else "Lowest recall first."
    hidden = len(labels) - len(ranked)
    more = f" {counted(hidden, 'more label')} in report.json." if hidden else ""
    note = f"Recall: share of the images with the label that are answered with it. {order}{more}"
    names = ("Keras" if name == reference else name for name in recalls)
    return Table(("label", "images", *names), tuple(rows), note)


def _badness(label: str, recalls: Mapping[str, Mapping[str, LabelShare]], reference: str | None) -> tuple[float, float]:
    """Rank a label by its largest loss against Keras, then by its lowest recall."""
    found = {name: by_label[label].share.fraction for name, by_label in recalls.items() if label in by_label}
    lowest = 1 - min(found.values())
    if reference is None or reference not in found:
        return 0.0, lowest
    return max(found[reference] - value for value in found.values()), lowest


def moved_table(report: Report) -> Table | None:
    """Make the table of changed answers, most frequent first; None if none changed or there is no Keras."""
    compared = [(subject, figures.against_keras) for subject, figures in report.measured() if figures.against_keras]
    moved = sorted(
        ((subject, item) for subject, against in compared for item in against.moved), key=lambda pair: -pair[1].count
    )[:MOST_MOVED]
    rows = [
        _row(report, subject, [Cell(item.label), Cell(item.keras_answer), Cell(item.answer), Cell(str(item.count))])
        for subject, item in moved
    ]
    flipped = sum(against.agreement.total - against.agreement.hits for _, against in compared)
    hidden = flipped - sum(item.count for _, item in moved)
    more = f" {counted(hidden, 'more changed answer')} of rarer kinds." if hidden > 0 else ""
    note = f"Images to which a model and Keras give different answers.{more}"
    header = ("model", "true label", "Keras answers", "it answers", "images")
    return Table(header, tuple(rows), note, text_columns=(0, 1, 2, 3)) if rows else None


SECTIONS: Sequence[tuple[str, Callable[[Report], Table | None]]] = (
    ("Latency", partial(figure_table, "Latency")),
    ("Stages", partial(figure_table, "Stages")),
    ("Cold start", partial(figure_table, "Cold start")),
    ("Memory, CPU time and size", resources_table),
    ("Threads", threads_table),
    ("Throughput", partial(figure_table, "Throughput")),
    ("Camera", partial(figure_table, "Camera")),
    ("Scores", partial(figure_table, "Scores")),
    ("By label", per_label_table),
    ("Where errors moved", moved_table),
)
"""Sections of a report after the main table, with their titles."""
