"""Report of the task, and its Markdown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchmarks.mlperf_tiny.task import TARGET
from benchmarks.peers.markdown import plain
from benchmarks.peers.plan import NotMeasured
from benchmarks.statistics import LatencySummary, Share

SCHEMA_VERSION = 1
JSON_FILE, MARKDOWN_FILE = "mlperf-tiny.json", "mlperf-tiny.md"
_ABSENT = "–"


@dataclass(frozen=True)
class ModelRow:
    """One model file.

    Attributes:
        name: Such as ``published int8``.
        file: Its name.
        bytes: Its size.
        sha256: Its hash.
        runtime: Runtime and version.
        accuracy: Top-1 over all evaluation images.
        held_out: Top-1 over the half that our int8 file was not calibrated with.
        known: Top-1 of the published file on these images as known beforehand, 0..1; None for our own files, and
            where the images are not the published 200.
        reaches_target: Whether ``accuracy`` is at least the published target.
        latency: Single-stream.
        peak_bytes: Largest resident memory of the process.
    """

    name: str
    file: str
    bytes: int
    sha256: str
    runtime: str
    accuracy: Share
    held_out: Share
    known: float | None
    reaches_target: bool
    latency: LatencySummary
    peak_bytes: int


@dataclass(frozen=True)
class TinyReport:
    """A run of the task.

    Attributes:
        schema_version: `SCHEMA_VERSION`.
        created_at: UTC, ISO 8601.
        command: As typed.
        machine: See `benchmarks.machine.MachineRecord`.
        images: Evaluation images.
        target: Published top-1 that must be reached, 0..1.
        min_queries: Least number of single-stream queries.
        min_duration_s: Least duration of single-stream.
        threads: Threads inside one inference.
        keras_accuracy: Of the published Keras model on the half that checked our conversion; None where not measured.
        keras_known: The same on all images as known beforehand, or None.
        load_before: Load average of the minute before.
        load_after: Load average of the last minute.
        rows: The files.
        not_measured: What could not be measured, and why.
    """

    schema_version: int
    created_at: str
    command: str
    machine: Any
    pictures: int
    target: float
    min_queries: int
    min_duration_s: float
    threads: int
    keras_accuracy: float | None
    keras_known: float | None
    load_before: float
    load_after: float
    rows: tuple[ModelRow, ...]
    not_measured: tuple[NotMeasured, ...]


def render(report: TinyReport) -> str:
    """The table, what is not measured, and what must be known to read it."""
    machine = report.machine if isinstance(report.machine, dict) else {}
    lines = [
        "# MLPerf Tiny, image classification: ResNet8",
        "",
        f"{report.pictures} evaluation images; target of the closed division: top-1 of at least {TARGET:.0%}. "
        f"{plain(str(machine.get('cpu_model', 'unknown processor')))}, {report.threads} thread; load "
        f"{report.load_before:.1f} before and {report.load_after:.1f} after.",
        "",
        "| model | size | top-1 (95 %) | known of the published file | target reached | top-1, held-out half "
        "| p90 | p50 | p99 | queries | peak memory |",
        "| --- | ---: | ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        *(_row(row) for row in report.rows),
        "",
        *(f"- not measured: {plain(one.name)}: {plain(one.reason)}" for one in report.not_measured),
        *(f"- {note}" for note in _notes(report)),
        "",
        f"Made with {plain(report.command)} at {plain(report.created_at)}.",
    ]
    return "\n".join(lines) + "\n"


def _row(row: ModelRow) -> str:
    share = row.accuracy
    cells = [
        plain(row.name),
        f"{row.bytes / 1e3:.1f} kB",
        f"{share.fraction:.1%} ({100 * share.low:.1f} to {100 * share.high:.1f})",
        _ABSENT if row.known is None else f"{row.known:.1%}",
        "yes" if row.reaches_target else "no",
        f"{row.held_out.fraction:.1%} of {row.held_out.total}",
        _ms(row.latency.p90_ms),
        _ms(row.latency.p50_ms),
        _ms(row.latency.p99_ms),
        f"{row.latency.queries:,}",
        f"{row.peak_bytes / 1e6:.0f} MB",
    ]
    return f"| {' | '.join(cells)} |"


def _ms(value: float | None) -> str:
    return _ABSENT if value is None else f"{value:.3f} ms"


def _notes(report: TinyReport) -> list[str]:
    notes = [
        f"Single-stream as LoadGen has it: p90 over at least {report.min_queries:,} queries and "
        f"{report.min_duration_s:g} s, one after another, each file in a fresh process. A query is the pixels of one "
        "image in memory, its answer the probabilities of all classes. This is no MLPerf submission.",
        "Ours is edge-convert run of the published Keras file. Half of the images calibrate its int8 file, "
        "because the task's files hold no others; the other half is the held-out one.",
        f"{report.pictures} images are few: the intervals tell how far another set of as many might lie from these.",
    ]
    if report.keras_accuracy is not None:
        known = "" if report.keras_known is None else f", and {report.keras_known:.1%} is known on all"
        notes.append(f"The published Keras file had {report.keras_accuracy:.1%} on the held-out half{known}.")
    return notes
