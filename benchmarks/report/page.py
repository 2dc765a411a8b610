"""``report.html``: one file that needs no network and no script, and can be mailed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.records.report import Report
from benchmarks.report import facts, plots
from benchmarks.report.accuracy_tables import moved_table, per_label_table, scores_table
from benchmarks.report.caveats import caveats
from benchmarks.report.gallery import Tile
from benchmarks.report.main_table import main_table
from benchmarks.report.markdown import NO_CAVEATS
from benchmarks.report.pareto import pareto_plot
from benchmarks.report.performance_tables import (
    camera_table,
    cold_start_table,
    latency_table,
    resources_table,
    stages_table,
    threads_table,
    throughput_table,
)
from benchmarks.report.table import Table, measured
from edge_runtime.reporting.pages import render_html

LatenciesMs = Mapping[str, Sequence[Sequence[float]]]
_FIRST_LINES = 3


@dataclass(frozen=True)
class Plot:
    """A plot as an embedded image, what it shows in words, and how to read it."""

    url: str
    text: str
    note: str


@dataclass(frozen=True)
class Section:
    """A heading with plots, a table, or both."""

    title: str
    plots: tuple[Plot, ...]
    table: Table | None


def render_page(report: Report, latencies_ms: LatenciesMs, thumbnails: Sequence[Tile]) -> str:
    """Make the whole page.

    Labels, file names and reasons come from elsewhere, so the template escapes everything.

    Args:
        report: The report, with its verdict.
        latencies_ms: Of each subject every timed single-stream call, round by round.
        thumbnails: Pictures of the worst flips, see `benchmarks.report.gallery.read_tiles`.
    """
    return render_html(
        "benchmarks.report",
        "report.html",
        {
            "report": report,
            "has_figures": bool(measured(report)),
            "main": main_table(report),
            "overview": _overview(report),
            "sections": [section for section in _sections(report, latencies_ms) if section.plots or section.table],
            "caveats": caveats(report),
            "no_caveats": NO_CAVEATS,
            "first_lines": _FIRST_LINES,
            "tiles": thumbnails,
            "facts": (
                ("How it was measured", facts.method(report)),
                ("Pictures", facts.pictures(report)),
                ("Machine", facts.machine(report)),
                ("Reproduce", facts.reproduction(report)),
            ),
        },
    )


def _overview(report: Report) -> list[Plot]:
    if not measured(report):
        return []
    text = "Accuracy against latency of one picture; the larger a bubble, the larger the file"
    note = (
        "Up and left is better. The area of a bubble is the size of the file, the faint bar the 95 % interval of the "
        "accuracy. What has a green ring is beaten in both by no other model; a triangle lies below the plot."
    )
    return [Plot(pareto_plot(report), text, note)]


def _sections(report: Report, latencies_ms: LatenciesMs) -> list[Section]:
    latency = _plots(
        plots.latency_plot(report, latencies_ms),
        "How often each latency came, for each model",
        "Solid line: p50, broken: p90, dotted: p99; all as multiples of the model's own p50, which is beside its name. "
        "Slower calls than the axis has room for are in the table.",
    )
    noise = _plots(
        plots.rounds_plot(report),
        "Each round against the median, for each model",
        "How steady the machine was: in the grey band a round is within 5 % of the median. At a broken upright line "
        "all processes were made anew.",
    )
    stages = _plots(plots.stages_plot(report), "Stacked bars of the stages for each model", "A cut bar ends with ».")
    memory = _plots(
        plots.memory_plot(report), "Bars of resident memory for each model", "Pale: peak. Dark: after the timed calls."
    )
    return [
        Section("Latency and noise", latency + noise, latency_table(report)),
        Section("Stages", stages, stages_table(report)),
        Section("Cold start", (), cold_start_table(report)),
        Section("Memory, processor time and size", memory, resources_table(report)),
        Section("Threads", (), threads_table(report)),
        Section("Throughput", (), throughput_table(report)),
        Section("Camera", (), camera_table(report)),
        Section("Scores", (), scores_table(report)),
        Section("By label", (), per_label_table(report)),
        Section("Where errors moved", (), moved_table(report)),
    ]


def _plots(url: str | None, text: str, note: str) -> tuple[Plot, ...]:
    return () if url is None else (Plot(url, text, note),)
