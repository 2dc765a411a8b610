"""Each model file in a process of its own, in random order."""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.mlperf_tiny.task import INPUT_RANGE, LABELS, Task
from benchmarks.peers.child import ask_child
from edge_runtime.errors import EngineError

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
        answers: int64 [N], class index of each picture.
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
