"""One side of ``benchmarks/studies/folder_throughput.py``, in a process of its own.

    python -m benchmarks.studies.folder_child limit|busy|pipeline|plain|same MODEL LIST [LABELS]

It opens the model and runs the list once, and once more for each line of standard input, and prints images a second.

``limit`` counts the processor time that decoding, resizing and inference take, and nothing else, ``busy`` the same
while every core does it; ``pipeline`` times `edge_runtime.pipeline.folder` with its workers already open; ``plain`` is
the loop of ``plain_loop.py`` beside this file, and ``same`` that loop with the contract's pixels.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

import cv2
import numpy as np

from benchmarks.studies.plain_loop import open_model
from edge_runtime.classifier import Classifier
from edge_runtime.cli_support import read_labels_file
from edge_runtime.contract import Crop
from edge_runtime.model.bundle import ModelFile, ModelOptions, find_model
from edge_runtime.pipeline.folder import classify_files
from edge_runtime.platform.board import core_count
from edge_runtime.preprocess import load_image


def limit(paths: list[Path], found: ModelFile) -> Callable[[], float]:
    """Cores / processor seconds an image of decode + resize + invoke, in one thread."""
    classifier = Classifier(found)
    return lambda: core_count() / _cpu_s(classifier, paths)


def busy(paths: list[Path], found: ModelFile) -> Callable[[], float]:
    """The same with a thread a core at once: cores that share caches or a clock each take longer for an image."""
    cores = core_count()
    classifiers = [Classifier(found) for _ in range(cores)]
    pool = ThreadPoolExecutor(cores)
    return lambda: cores**2 / sum(pool.map(_cpu_s, classifiers, (paths[core::cores] for core in range(cores))))


def pipeline(paths: list[Path], found: ModelFile) -> Callable[[], float]:
    """``edge-run classify`` without its start and its rows."""
    # The workers wait at this queue between two measurements, with their interpreters open.
    given: SimpleQueue[Path | None] = SimpleQueue()
    results = classify_files(
        iter(given.get, None), Classifier(found), lambda: Classifier(found), workers=core_count(), top_k=3
    )

    def measure() -> float:
        started_s = time.perf_counter()
        for path in paths:
            given.put(path)
        for _ in paths:
            next(results)
        return len(paths) / (time.perf_counter() - started_s)

    return measure


def plain(paths: list[Path], found: ModelFile) -> Callable[[], float]:
    """The loop that one writes in ten lines."""
    classify = open_model(str(found.path))
    return lambda: _rate(lambda path: classify(str(path)), paths)


def same(paths: list[Path], found: ModelFile) -> Callable[[], float]:
    """A loop of one thread that makes the same pixels as ``edge-run``."""
    classifier = Classifier(found)

    def answer(path: Path) -> int:
        return int(np.argmax(classifier.engine.invoke(classifier.prepare(load_image(path))[np.newaxis])))

    return lambda: _rate(answer, paths)


def main(side: str, model: str, list_file: str, labels: str | None = None) -> None:
    """Serve one side."""
    cv2.setNumThreads(1)
    paths = [Path(line) for line in Path(list_file).read_text(encoding="utf-8").splitlines()]
    foreign = ModelOptions(labels=read_labels_file(Path(labels)), crop=Crop.CENTER) if labels else None
    measure = {"limit": limit, "busy": busy, "pipeline": pipeline, "plain": plain, "same": same}[side](
        paths, find_model(Path(model), None, foreign)
    )
    print(measure(), flush=True)
    for _ in sys.stdin:
        print(measure(), flush=True)


def _cpu_s(classifier: Classifier, paths: list[Path]) -> float:
    started_s = time.thread_time()
    for path in paths:
        classifier.engine.invoke(classifier.prepare(load_image(path))[np.newaxis])
    return (time.thread_time() - started_s) / len(paths)


def _rate(answer: Callable[[Path], int], paths: list[Path]) -> float:
    started_s = time.perf_counter()
    for path in paths:
        answer(path)
    return len(paths) / (time.perf_counter() - started_s)


if __name__ == "__main__":
    main(*sys.argv[1:])
