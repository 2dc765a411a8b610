"""Run the task: convert, measure every file, and assemble the report."""

from __future__ import annotations

import os
import random
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import describe_machine
from benchmarks.mlperf_tiny.records import SCHEMA_VERSION, ModelRow, TinyReport
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
    Converted,
    Task,
    convert,
    read_task,
)
from benchmarks.peers.measuring import ask_child
from benchmarks.peers.plan import NotMeasured
from benchmarks.statistics import Share, share_of, summarize_latencies
from edge_runtime.errors import EngineError
from edge_runtime.model.bundle import file_sha256
from edge_runtime.strict import to_mapping

_PROGRAM = (sys.executable, "-m", "benchmarks.mlperf_tiny.child")
_SLACK_S = 300.0


@dataclass(frozen=True)
class StreamSettings:
    """How single-stream is run.

    Attributes:
        queries: At least so many; LoadGen's least for this mode is 1024.
        duration_s: At least for so long; LoadGen's is 60 s.
        threads: Threads inside one inference.
        seed: Of the order of the files.
    """

    queries: int = 1024
    duration_s: float = 60.0
    threads: int = 1
    seed: int = 0


@dataclass(frozen=True)
class FileSeen:
    """What was seen of one model file.

    Attributes:
        file: The model file.
        runtime: Runtime and version.
        answers: int64 [N], class index of each image.
        latencies_ns: int64 [queries], in order.
        peak_bytes: Largest resident memory of the process.
    """

    file: Path
    runtime: str
    answers: NDArray[np.int64]
    latencies_ns: NDArray[np.int64]
    peak_bytes: int


def measure_files(
    files: Sequence[Path], task: Task, settings: StreamSettings, scratch: Path
) -> dict[Path, FileSeen | str]:
    """Accuracy and single-stream of each file; one sentence instead where that is not possible."""
    images = scratch / "images.npy"
    np.save(images, task.images_nhwc_rgb_u8)
    order = list(files)
    random.Random(settings.seed).shuffle(order)  # noqa: S311  an order, not a secret
    seen: dict[Path, FileSeen | str] = {}
    for file in order:
        try:
            seen[file] = _measure(file, images, len(task.truth), settings, scratch)
        except EngineError as error:
            seen[file] = str(error)
    return {file: seen[file] for file in files}


def _measure(file: Path, images: Path, count: int, settings: StreamSettings, scratch: Path) -> FileSeen:
    latencies = scratch / "latencies.npy"
    request = {
        "model": str(file),
        "labels": list(LABELS),
        "input_range": list(INPUT_RANGE),
        "images": str(images),
        "latencies": str(latencies),
        "queries": settings.queries,
        "duration_s": settings.duration_s,
        "threads": settings.threads,
    }
    result, finished = ask_child(_PROGRAM, request, scratch, settings.duration_s + _SLACK_S)
    answers = np.array(result["answers"], np.int64)
    if answers.shape != (count,):
        raise EngineError(f"{file.name}: expected {count} answers, got {answers.size}")
    latencies_ns = np.load(latencies, allow_pickle=False)
    return FileSeen(file, str(result["runtime"]), answers, latencies_ns, finished.peak_bytes)


_PARTS = 30  # of the latencies, in time order, for the interval of the median


def run_task(folder: Path, settings: StreamSettings, command: str) -> TinyReport:
    """Convert, measure all files, and gather.

    Raises:
        EdgeKitError: The task's files cannot be used, or not one model could be measured.
    """
    task = read_task(folder)
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="edge-mlperf-tiny-") as name:
        scratch = Path(name)
        files = {"published float32": folder / FLOAT_FILE, "published int8": folder / INT8_FILE}
        missing: list[NotMeasured] = []
        converted = _convert(task, scratch, missing)
        if converted:
            files.update({f"ours, {variant.value}": file for variant, file in converted.files.items()})
        seen = measure_files([file.resolve() for file in files.values()], task, settings, scratch)
        rows: list[ModelRow] = []
        for label, found in zip(files, seen.values(), strict=True):
            if isinstance(found, str):
                missing.append(NotMeasured(label, found))
            else:
                rows.append(_row(label, found, task))
    if not rows:
        raise EngineError("; ".join(f"{one.name}: {one.reason}" for one in missing))
    return TinyReport(
        schema_version=SCHEMA_VERSION,
        created_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        command=command,
        machine=to_mapping(describe_machine()),
        pictures=len(task.truth),
        target=TARGET,
        min_queries=settings.queries,
        min_duration_s=settings.duration_s,
        threads=settings.threads,
        keras_accuracy=converted.keras_accuracy if converted else None,
        keras_known=_known(KERAS_FILE, task),
        load_before=load_before,
        load_after=os.getloadavg()[0],
        rows=tuple(rows),
        not_measured=tuple(missing),
    )


def _convert(task: Task, scratch: Path, missing: list[NotMeasured]) -> Converted | None:
    """Our files; where they cannot be made, the published ones are measured all the same."""
    try:
        return convert(task, scratch)
    except EngineError as error:
        missing += [NotMeasured(f"ours, {variant.value}", str(error)) for variant in VARIANTS]
        return None


def _row(name: str, seen: FileSeen, task: Task) -> ModelRow:
    accuracy = _share(seen.answers, task.truth)
    held_out = task.held_out
    parts: Sequence[NDArray[np.int64]] = np.array_split(seen.latencies_ns, _PARTS)
    return ModelRow(
        name=name,
        file=seen.file.name,
        bytes=seen.file.stat().st_size,
        sha256=file_sha256(seen.file),
        runtime=seen.runtime,
        accuracy=accuracy,
        held_out=_share(seen.answers[held_out], task.truth[held_out]),
        known=_known(seen.file.name, task),
        reaches_target=accuracy.fraction >= TARGET,
        latency=summarize_latencies([part.tolist() for part in parts]),
        peak_bytes=seen.peak_bytes,
    )


def _share(answers: NDArray[np.int64], truth: NDArray[np.int64]) -> Share:
    return share_of(int((answers == truth).sum()), len(truth))


def _known(file: str, task: Task) -> float | None:
    """What is known of a published file holds for the published images only."""
    hits = KNOWN_HITS.get(file)
    return hits / KNOWN_IMAGES if hits is not None and len(task.truth) == KNOWN_IMAGES else None
