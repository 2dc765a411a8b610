"""Tables of a report: the main one, accuracy and performance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.plan import KERAS_SUBJECTS
from benchmarks.records import LabelShare, Moved, Performance, Report, Resources, SubjectResult
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


def span(interval: Interval | None) -> str:
    """Write an interval as ``0.51 to 0.53``; empty without one."""
    return "" if interval is None else f"{significant(interval.low)} to {significant(interval.high)}"


@dataclass(frozen=True)
class Cell:
    """Plain text, to be escaped by whoever draws it, and what goes with it in small, such as its interval."""

    text: str
    small: str = ""


NOTHING = Cell(ABSENT)


def _share_cell(share: Share | None) -> Cell:
    return NOTHING if share is None else Cell(percent(share.fraction), percent_range(share.low, share.high))


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
    "Beside a figure: its 95 % interval. Against Keras: accuracy less that of Keras on the same images; McNemar p is "
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
        _share_cell(top1),
        _share_cell(top5),
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


MOST_LABELS = 20
MOST_MOVED = 30


def scores_table(report: Report) -> Table | None:
    """Whether the scores can be believed, and what changed beside Keras; or None where nobody was measured."""
    rows = []
    for subject, figures in measured(report):
        reject, against = figures.accuracy.reject, figures.against_keras
        right = reject.right_of_answered if reject else None
        cells = (
            Cell(percent(figures.accuracy.calibration_error)),
            Cell(f"{reject.threshold:.2f}") if reject else NOTHING,
            _share_cell(reject.answered if reject else None),
            _share_cell(right),
            Cell(str(against.lost)) if against else NOTHING,
            Cell(str(against.gained)) if against else NOTHING,
        )
        rows.append(row_of(report, subject, cells))
    header = (
        "model",
        "calibration error",
        "reject threshold",
        "answered",
        "right of these",
        "only Keras right",
        "only this right",
    )
    note = (
        "Calibration error: how far a score is from the share of right answers with such a score, on average. "
        "Answers below the reject threshold count as none of the labels. The last columns count images."
    )
    return without_empty_columns(Table(header, tuple(rows), note)) if rows else None


def per_label_table(report: Report) -> Table | None:
    """Recall by label: those that changed most against Keras first; without Keras, the lowest first."""
    shown = _recall_subjects(report)
    recalls = {subject.name: {item.label: item for item in figures.accuracy.per_label} for subject, figures in shown}
    labels = list(dict.fromkeys(label for by_label in recalls.values() for label in by_label))
    if not labels:
        return None
    reference = next((subject.name for subject, _ in shown if is_keras(subject)), None)
    ranked = sorted(labels, key=lambda label: _badness(label, recalls, reference), reverse=True)[:MOST_LABELS]
    rows = [
        Row((Cell(label), _total(label, recalls), *(_recall(by_label.get(label)) for by_label in recalls.values())))
        for label in ranked
    ]
    order = "Labels that lost most against Keras first." if reference else "Lowest recall first."
    hidden = len(labels) - len(ranked)
    more = f" {counted(hidden, 'more label')} in report.json." if hidden else ""
    note = f"Recall: of the images with the label, the share that is answered with it. {order}{more}"
    names = ("Keras" if name == reference else name for name in recalls)
    return Table(("label", "images", *names), tuple(rows), note)


def moved_table(report: Report) -> Table | None:
    """Which answers changed into which, most frequent first; None where none changed or there is no Keras."""
    moved = [(subject, item) for subject, figures in measured(report) for item in _moved(figures)]
    moved.sort(key=lambda pair: -pair[1].count)
    flipped = sum(
        figures.against_keras.agreement.total - figures.against_keras.agreement.hits
        for _, figures in measured(report)
        if figures.against_keras
    )
    rows = [
        row_of(report, subject, (Cell(item.label), Cell(item.keras_answer), Cell(item.answer), Cell(str(item.count))))
        for subject, item in moved[:MOST_MOVED]
    ]
    hidden = flipped - sum(item.count for _, item in moved[:MOST_MOVED])
    more = f" {counted(hidden, 'more changed answer')} of rarer kinds." if hidden > 0 else ""
    note = f"Images to which a model gives another answer than Keras.{more}"
    header = ("model", "true label", "Keras answers", "it answers", "images")
    return Table(header, tuple(rows), note, text_columns=(0, 1, 2, 3)) if rows else None


def _moved(figures: Performance) -> tuple[Moved, ...]:
    return figures.against_keras.moved if figures.against_keras else ()


def _recall_subjects(report: Report) -> list[tuple[SubjectResult, Performance]]:
    """The artifacts, after one Keras: its ways of being called do not differ in their answers."""
    keras = [pair for pair in measured(report) if is_keras(pair[0])]
    return keras[:1] + [pair for pair in measured(report) if not is_keras(pair[0])]


def _badness(label: str, recalls: Mapping[str, Mapping[str, LabelShare]], reference: str | None) -> tuple[float, float]:
    """Largest loss against Keras, then what the lowest recall lacks to 1."""
    found = {name: by_label[label].share.fraction for name, by_label in recalls.items() if label in by_label}
    lowest = 1 - min(found.values())
    if reference is None or reference not in found:
        return 0.0, lowest
    return max(found[reference] - value for value in found.values()), lowest


def _recall(item: LabelShare | None) -> Cell:
    return _share_cell(item.share if item else None)


def _total(label: str, recalls: Mapping[str, Mapping[str, LabelShare]]) -> Cell:
    return Cell(str(next(by_label[label].share.total for by_label in recalls.values() if label in by_label)))


def latency_table(report: Report) -> Table | None:
    """Every percentile of the single stream, or None where nobody was measured."""
    rows = []
    for subject, figures in measured(report):
        stream, latency = figures.single_stream, figures.single_stream.latency
        cells = (
            Cell(f"{latency.queries:,}", f"{stream.duration_s:.1f} s"),
            Cell(significant(latency.minimum_ms)),
            Cell(significant(latency.p50_ms), span(latency.p50_interval_ms)),
            Cell(significant(latency.p90_ms)),
            Cell(significant(latency.p95_ms)),
            optional(latency.p99_ms),
            optional(latency.p99_9_ms),
            Cell(significant(latency.maximum_ms)),
            NOTHING if stream.waiting is None else Cell(percent(stream.waiting)),
        )
        rows.append(row_of(report, subject, cells))
    header = ("model", "calls", "least, ms", "p50, ms", "p90, ms", "p95, ms", "p99, ms", "p99.9, ms", "most, ms")
    note = (
        "Single stream: one prepared image after another. p99 needs 100 calls, p99.9 a thousand. Disturbed: share of "
        "the timed calls during which another program had the processor."
    )
    return without_empty_columns(Table((*header, "disturbed"), tuple(rows), note)) if rows else None


def throughput_table(report: Report) -> Table | None:
    """MLPerf's offline scenario, or None where nobody was measured."""
    rows = [
        row_of(
            report,
            subject,
            (
                Cell(significant(offline.images_per_s), span(offline.interval_images_per_s)),
                Cell(str(offline.workers)),
                Cell(significant(1e3 * offline.cpu_s_per_image)),
                Cell(f"{offline.images:,}"),
            ),
        )
        for subject, figures in measured(report)
        for offline in [figures.offline]
        if offline is not None
    ]
    header = ("model", "images a second", "workers", "CPU ms an image", "images")
    note = "All image files at once, as edge-run classify does a folder: decode, prepare, invoke and the rest."
    return Table(header, tuple(rows), note) if rows else None


def camera_table(report: Report) -> Table | None:
    """Freshness behind a paced camera, or None where nobody was measured."""
    rows = [
        row_of(
            report,
            subject,
            (
                Cell(f"{camera.fps:g} fps", "x".join(map(str, camera.size_wh))),
                Cell(str(camera.frames)),
                Cell(str(camera.answered)),
                Cell(str(camera.dropped)),
                Cell(significant(camera.age_p50_ms)),
                Cell(significant(camera.age_p99_ms)),
            ),
        )
        for subject, figures in measured(report)
        for camera in [figures.camera]
        if camera is not None
    ]
    header = ("model", "camera", "frames", "answered", "dropped", "age p50, ms", "age p99, ms")
    note = "Age: from the moment a frame was taken until its answer. Dropped: nobody looked, a newer one was there."
    return Table(header, tuple(rows), note) if rows else None


def stages_table(report: Report) -> Table | None:
    """Where the time of one image file goes, or None where nobody was measured."""
    rows = []
    for subject, figures in measured(report):
        stages = figures.stages
        if stages is not None:
            parts = (stages.decode_ms, stages.preprocess_ms, stages.invoke_ms, stages.postprocess_ms)
            cells = [Cell(significant(part)) for part in (*parts, sum(parts))]
            rows.append(row_of(report, subject, [*cells, Cell(str(stages.images))]))
    header = ("model", "decode, ms", "preprocess, ms", "invoke, ms", "postprocess, ms", "sum, ms", "images")
    note = "Medians of each stage, of one image file after another."
    return Table(header, tuple(rows), note) if rows else None


def cold_start_table(report: Report) -> Table | None:
    """The parts of the median start, or None where nobody was measured."""
    rows = []
    for subject, figures in measured(report):
        start = figures.cold_start
        parts = (start.median_ms, start.interpreter_ms, start.import_ms, start.load_ms, start.first_ms)
        cells = [Cell(str(len(start.samples_ms))), *(Cell(f"{part:.0f}") for part in parts)]
        steady = optional(start.steady_ms)
        rows.append(row_of(report, subject, [*cells, steady]))
    header = ("model", "starts", "median, ms", "Python, ms", "import, ms", "load, ms", "first answer, ms", "warm, ms")
    note = (
        "From making the process to its first answer for one image file. The median of several starts, so that the "
        "libraries lie in the page cache; warm: the same image file once everything runs."
    )
    return without_empty_columns(Table(header, tuple(rows), note)) if rows else None


def threads_table(report: Report) -> Table | None:
    """Latency by threads inside one inference, or None where that was not swept."""
    swept = [(subject, figures) for subject, figures in measured(report) if figures.threads]
    counts = sorted({point.threads for _, figures in swept for point in figures.threads})
    rows = []
    for subject, figures in swept:
        by_count = {
            point.threads: Cell(significant(point.p50_ms), span(point.interval_ms)) for point in figures.threads
        }
        rows.append(row_of(report, subject, [by_count.get(count, NOTHING) for count in counts]))
    header = ("model", *(f"{count} thread{'' if count == 1 else 's'}" for count in counts))
    return Table(header, tuple(rows), "p50 of one prepared image, in ms.") if rows else None


def resources_table(report: Report) -> Table | None:
    """Memory, processor time, size and energy, or None where nobody was measured."""
    rows = [
        row_of(report, subject, _resource_cells(figures.resources, subject.bytes))
        for subject, figures in measured(report)
    ]
    header = (
        "model",
        "peak memory",
        "steady memory",
        "CPU ms an inference",
        "file",
        "installed packages",
        "energy an inference, mJ",
    )
    note = (
        "Resident memory of the process that started, classified one image file and made the timed calls. "
        "MB are 10^6 bytes. Installed packages: what must be on the disk to run it."
    )
    if report.board.power_meter is not None:
        note += " Energy is what was drawn above idle."
    return without_empty_columns(Table(header, tuple(rows), note)) if rows else None


def _resource_cells(resources: Resources, file_bytes: int) -> tuple[Cell, ...]:
    sizes = (resources.peak_memory_bytes, resources.steady_memory_bytes, file_bytes or None, resources.install_bytes)
    peak, steady, file, install = (NOTHING if size is None else Cell(megabytes(size)) for size in sizes)
    figures = (resources.cpu_ms_per_inference, resources.energy_mj_per_inference)
    cpu, energy = map(optional, figures)
    return peak, steady, cpu, file, install, energy
