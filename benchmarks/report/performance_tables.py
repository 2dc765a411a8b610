"""What each model costs, as tables."""

from __future__ import annotations

from benchmarks.records.performance import Resources
from benchmarks.records.report import Report
from benchmarks.report.table import NOTHING, Cell, Table, measured, optional, row_of, without_empty_columns
from benchmarks.report.wording import megabytes, percent, significant, span


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
        "Single stream: one prepared picture after another. p99 needs 100 calls, p99.9 a thousand. Disturbed: share of "
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
    header = ("model", "pictures a second", "workers", "CPU ms a picture", "pictures")
    note = "All picture files at once, as edge-run classify does a folder: decode, prepare, invoke and the rest."
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
    """Where the time of one picture file goes, or None where nobody was measured."""
    rows = []
    for subject, figures in measured(report):
        stages = figures.stages
        if stages is not None:
            parts = (stages.decode_ms, stages.preprocess_ms, stages.invoke_ms, stages.postprocess_ms)
            cells = [Cell(significant(part)) for part in (*parts, sum(parts))]
            rows.append(row_of(report, subject, [*cells, Cell(str(stages.images))]))
    header = ("model", "decode, ms", "preprocess, ms", "invoke, ms", "postprocess, ms", "sum, ms", "pictures")
    note = "Medians of each stage, of one picture file after another."
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
        "From making the process to its first answer for one picture file. The median of several starts, so that the "
        "libraries lie in the page cache; warm: the same picture file once everything runs."
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
    return Table(header, tuple(rows), "p50 of one prepared picture, in ms.") if rows else None


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
        "Resident memory of the process that started, classified one picture file and made the timed calls. "
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
