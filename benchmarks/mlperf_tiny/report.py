"""Measure every file of the task and report it: records and Markdown."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np

from benchmarks.mlperf_tiny.task import (
    FLOAT_FILE,
    INPUT_RANGE,
    INT8_FILE,
    KERAS_FILE,
    KNOWN_HITS,
    KNOWN_IMAGES,
    LABELS,
    TARGET,
    VARIANTS,
    Task,
    convert,
    read_task,
)
from benchmarks.peers.plan import NotMeasured
from benchmarks.peers.processes import ask_child
from benchmarks.peers.report import Columns, RunRecord, plain, run_facts, share_text, table
from benchmarks.statistics import LatencySummary, Share, share_of, summarize_latencies
from edge_runtime.errors import EngineError
from edge_runtime.model.bundle import file_sha256
from edge_runtime.platform.atomic import temporary_folder
from edge_runtime.workstation.reporting.wording import ABSENT

_PROGRAM = (sys.executable, "-m", "benchmarks.mlperf_tiny.child")
_SLACK_S = 300.0
_PARTS = 30  # of the latencies, in time order, for the interval of the median


@dataclass(frozen=True)
class StreamSettings:
    """Settings of single-stream.

    Attributes:
        queries: Least number of queries; LoadGen's for this mode is 1024.
        duration_s: Least duration in seconds; LoadGen's is 60.
        threads: Threads inside one inference.
        seed: Seed of the order of the files.
    """

    queries: int = 1024
    duration_s: float = 60.0
    threads: int = 1
    seed: int = 0


@dataclass(frozen=True)
class ModelRow:
    """One model file of the report."""

    name: Annotated[str, "Name, such as ``published int8``."]
    file: Annotated[str, "Name of the file."]
    bytes: Annotated[int, "Size of the file."]
    sha256: Annotated[str, "SHA-256 of the file."]
    runtime: Annotated[str, "Runtime and version."]
    accuracy: Annotated[Share, "Top-1 over all evaluation images."]
    held_out: Annotated[Share, "Top-1 over the half that our int8 file was not calibrated with."]
    known: Annotated[
        float | None,
        "Top-1, 0..1, of the published file on these images as measured before; None for our own files, and where "
        "the images are not the published 200.",
    ]
    reaches_target: Annotated[bool, "True if ``accuracy`` is at least the published target."]
    latency: Annotated[LatencySummary, "Latencies of single-stream."]
    peak_bytes: Annotated[int, "Largest resident memory of the process."]


@dataclass(frozen=True)
class TinyReport(RunRecord):
    """Run of the task."""

    pictures: Annotated[int, "Number of evaluation images."]
    target: Annotated[float, "Published top-1, 0..1, that must be reached."]
    min_queries: Annotated[int, "Least number of single-stream queries."]
    min_duration_s: Annotated[float, "Least duration of single-stream in seconds."]
    threads: Annotated[int, "Threads inside one inference."]
    keras_accuracy: Annotated[
        float | None, "Top-1, 0..1, of the published Keras model on the half that checked our conversion, or None."
    ]
    keras_known: Annotated[float | None, "Top-1 of the same on all images as measured before, or None."]
    rows: Annotated[tuple[ModelRow, ...], "Files that were measured."]


def run_task(folder: Path, settings: StreamSettings, command: str) -> TinyReport:
    """Convert, measure all files, and build the report.

    Raises:
        EdgeKitError: The task's files cannot be used, or no model could be measured.
    """
    task = read_task(folder)
    load_before = os.getloadavg()[0]
    files = {"published float32": folder / FLOAT_FILE, "published int8": folder / INT8_FILE}
    missing, keras_accuracy = [], None
    with temporary_folder("mlperf-tiny") as scratch:
        try:
            converted, keras_accuracy = convert(task, scratch)
            files.update({f"ours, {variant.value}": file for variant, file in converted.items()})
        except EngineError as error:  # the published files are measured all the same
            missing = [NotMeasured(f"ours, {variant.value}", str(error)) for variant in VARIANTS]
        results = measure_files(files, task, settings, scratch)
    rows = [result for result in results.values() if isinstance(result, ModelRow)]
    missing += [NotMeasured(label, result) for label, result in results.items() if isinstance(result, str)]
    if not rows:
        raise EngineError("; ".join(f"{one.name}: {one.reason}" for one in missing))
    return TinyReport(
        **run_facts(command, load_before, missing),
        pictures=len(task.truth),
        target=TARGET,
        min_queries=settings.queries,
        min_duration_s=settings.duration_s,
        threads=settings.threads,
        keras_accuracy=keras_accuracy,
        keras_known=_known(KERAS_FILE, task),
        rows=tuple(rows),
    )


def measure_files(
    files: Mapping[str, Path], task: Task, settings: StreamSettings, scratch: Path
) -> dict[str, ModelRow | str]:
    """Measure accuracy and single-stream of each named file in seeded random order; the reason where that fails."""
    images = scratch / "images.npy"
    np.save(images, task.images_nhwc_rgb_u8)
    order = list(files)
    random.Random(settings.seed).shuffle(order)  # noqa: S311  an order, not a secret
    results: dict[str, ModelRow | str] = {}
    for name in order:
        try:
            results[name] = _measure(name, files[name].resolve(), images, task, settings, scratch)
        except EngineError as error:
            results[name] = str(error)
    return {name: results[name] for name in files}


def _measure(name: str, file: Path, images: Path, task: Task, settings: StreamSettings, scratch: Path) -> ModelRow:
    latencies = scratch / "latencies.npy"
    request = {
        "model": str(file),
        "labels": LABELS,
        "input_range": INPUT_RANGE,
        "images": str(images),
        "latencies": str(latencies),
        "queries": settings.queries,
        "duration_s": settings.duration_s,
        "threads": settings.threads,
    }
    result, finished = ask_child(_PROGRAM, request, scratch, settings.duration_s + _SLACK_S)
    answers = np.array(result["answers"], np.int64)
    if answers.shape != task.truth.shape:
        raise EngineError(f"{file.name}: expected {len(task.truth)} answers, got {answers.size}")
    latencies_ns = np.load(latencies, allow_pickle=False)
    hits, held_out = answers == task.truth, task.held_out
    accuracy = share_of(int(hits.sum()), len(hits))
    return ModelRow(
        name=name,
        file=file.name,
        bytes=file.stat().st_size,
        sha256=file_sha256(file),
        runtime=str(result["runtime"]),
        accuracy=accuracy,
        held_out=share_of(int(hits[held_out].sum()), int(held_out.sum())),
        known=_known(file.name, task),
        reaches_target=accuracy.fraction >= TARGET,
        latency=summarize_latencies([part.tolist() for part in np.array_split(latencies_ns, _PARTS)]),
        peak_bytes=finished.peak_bytes,
    )


def _known(file: str, task: Task) -> float | None:
    """Look up the accuracy of a published file, which is known for the published images only."""
    hits = KNOWN_HITS.get(file)
    return hits / KNOWN_IMAGES if hits is not None and len(task.truth) == KNOWN_IMAGES else None


def render(report: TinyReport) -> str:
    """Render the table, the files that were not measured, and the notes on how to read them."""
    remarks = [f"not measured: {plain(one.name)}: {plain(one.reason)}" for one in report.not_measured]
    parts = [
        "# MLPerf Tiny, image classification: ResNet8",
        f"{report.pictures} evaluation images; target of the closed division: top-1 of at least {TARGET:.0%}. "
        + report.machine_line(f"{report.threads} thread"),
        table(_COLUMNS, report.rows, text_columns=(0, 4)),
        "\n".join(f"- {line}" for line in (*remarks, *_notes(report))),
        report.origin_line(),
    ]
    return "\n\n".join(parts) + "\n"


def _latency(latency_ms: float | None) -> str:
    return ABSENT if latency_ms is None else f"{latency_ms:.3f}"


_COLUMNS: Columns[ModelRow] = (
    ("model", lambda row: row.name),
    ("size", lambda row: f"{row.bytes / 1e3:.1f} kB"),
    ("top-1 (95 %)", lambda row: share_text(row.accuracy, space="")),
    ("known of the published file", lambda row: ABSENT if row.known is None else f"{row.known:.1%}"),
    ("target reached", lambda row: "yes" if row.reaches_target else "no"),
    ("top-1, held-out half", lambda row: f"{row.held_out.fraction:.1%} of {row.held_out.total}"),
    ("p90, ms", lambda row: _latency(row.latency.p90_ms)),
    ("p50, ms", lambda row: _latency(row.latency.p50_ms)),
    ("p99, ms", lambda row: _latency(row.latency.p99_ms)),
    ("queries", lambda row: f"{row.latency.queries:,}"),
    ("peak memory", lambda row: f"{row.peak_bytes / 1e6:.0f} MB"),
)


def _notes(report: TinyReport) -> list[str]:
    notes = [
        f"Single-stream as in LoadGen: p90 over at least {report.min_queries:,} queries and "
        f"{report.min_duration_s:g} s, one after another, each file in a fresh process. A query is the pixels of one "
        "image in memory, its answer the probabilities of all classes. This is no MLPerf submission.",
        "Ours is edge-convert run of the published Keras file. Half of the images calibrate its int8 file, "
        "because the task's files hold no others; the other half is the held-out one.",
        f"{report.pictures} images are few: the intervals show the uncertainty of the accuracies.",
    ]
    if report.keras_accuracy is not None:
        known = "" if report.keras_known is None else f", and {report.keras_known:.1%} is known on all"
        notes.append(f"The published Keras file had {report.keras_accuracy:.1%} on the held-out half{known}.")
    return notes
