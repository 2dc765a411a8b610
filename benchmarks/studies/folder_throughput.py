"""Throughput of ``edge-run classify`` with many photos, against the limit of the machine and beside plain loops.

    python -m benchmarks.studies.folder_throughput MODEL.tflite PHOTOS [--labels FILE] [--processes 3] [--rounds 8]
        [--pictures 1000] [--wholes 5] [--mediapipe PYTHON]

Steady rates: each side is a process that stays open (one a core where it says so), and in each round every side runs
all photos in seeded random order of the sides, so that the drift of a machine within minutes meets all of them.
Several generations of processes, because the place of a process in memory moves its speed. Whole processes, from
their start to their last row, are measured after that, in turn.

The limit is cores / processor seconds an image of decode + resize + invoke, measured in the same round. Required: 0.93
of the limit, and 1.9 times a plain loop of one interpreter and one thread. A plain loop on every core shows how much of
that the cores themselves give: with neighbours on its hardware a virtual core at work slows the other one.

``... folder_throughput child SIDE MODEL LIST [LABELS]`` is one side: it opens the model and runs the list once, and
once more for each line of standard input, and prints images a second.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from queue import SimpleQueue

import cv2
import numpy as np

from benchmarks.peers.report import ratio_text
from benchmarks.statistics import ratio_of
from benchmarks.studies.common import compiled_environment, installed_program, run_whole
from benchmarks.studies.plain_loop import open_model
from edge_runtime.classifier import Classifier
from edge_runtime.commands.options import read_labels_file
from edge_runtime.contract import Crop
from edge_runtime.image_files import is_image_name
from edge_runtime.model.bundle import ModelFile, ModelOptions, find_model
from edge_runtime.pipeline.folder import classify_files
from edge_runtime.platform.process import core_count
from edge_runtime.preprocess import load_image
from edge_runtime.workstation.reporting.wording import markdown_table

_SLICE = 400
_STEADY = {
    "limit": "limit: cores / processor time",
    "busy": "the same with every core at work",
    "pipeline": "edge-run's pipeline",
    "plain": "plain loop with cv2.resize",
    "each": "such a loop on every core, in processes",
    "same": "plain loop with the same pixels",
    "mediapipe": "MediaPipe's ImageClassifier",
}
_WHOLE = {"edge-run": "edge-run classify, whole process", "script": "plain loop with cv2.resize, whole process"}


@dataclass(frozen=True)
class Setting:
    """Model and photos to measure.

    Attributes:
        model: Path of the model file.
        labels: Path of its labels, or None where it carries a manifest.
        photos: Paths of the photos.
        mediapipe: Python that has MediaPipe, or None.
    """

    model: str
    labels: str | None
    photos: tuple[Path, ...]
    mediapipe: str | None

    def write_list(self, scratch: Path, images: int) -> str:
        """Write a list of this number of images, with the photos repeated."""
        file = scratch / f"{images}.txt"
        file.write_text("".join(f"{path}\n" for path in islice(cycle(self.photos), images)), encoding="utf-8")
        return str(file)


def measure_steady(setting: Setting, scratch: Path, processes: int, rounds: int) -> list[dict[str, float]]:
    """Measure images a second of each side, round by round."""
    list_file = setting.write_list(scratch, -(-_SLICE // len(setting.photos)) * len(setting.photos))
    given = [setting.model, list_file, *([setting.labels] if setting.labels else [])]
    child = [sys.executable, "-m", "benchmarks.studies.folder_throughput", "child"]
    commands = {side: [*child, side, *given] for side in _SIDES}
    commands["each"] = commands["plain"]
    if setting.mediapipe:
        script = str(Path(__file__).with_name("mediapipe_loop.py"))
        commands["mediapipe"] = [setting.mediapipe, script, setting.model, list_file]
    chance = random.Random(0)  # noqa: S311  an order, not a secret
    measured = []
    for _ in range(processes):
        with contextlib.ExitStack() as stack:
            sides = {
                side: [stack.enter_context(_Child(command)) for _ in range(core_count() if side == "each" else 1)]
                for side, command in commands.items()
            }
            for _ in range(rounds):
                measured.append({side: _rate_together(sides[side]) for side in chance.sample(list(sides), len(sides))})
                print({side: round(measured[-1][side], 1) for side in sides}, file=sys.stderr)
    return measured


def measure_wholes(setting: Setting, scratch: Path, images: int, rounds: int) -> list[dict[str, float]]:
    """Measure images a second of whole processes that write a row for each image, in turn, after one warm-up round."""
    list_file = setting.write_list(scratch, images)
    edge_run = [installed_program("edge-run"), "classify", setting.model, "--list", list_file, "--format", "jsonl"]
    edge_run += ["--labels", setting.labels, "--crop", "center"] if setting.labels else []
    script = [sys.executable, str(Path(__file__).with_name("plain_loop.py")), setting.model, list_file]
    measured = []
    for _ in range(rounds + 1):
        rates = {}
        for side, command in (("edge-run", edge_run), ("script", script)):
            finished = run_whole(command)
            rates[side] = images / finished.wall_ns * 1e9
            if finished.output.count(b"\n") != images:
                sys.exit(f"{' '.join(command)}: expected {images} rows")
        print({side: round(rate, 1) for side, rate in rates.items()}, file=sys.stderr)
        measured.append(rates)
    return measured[1:]


def render(names: dict[str, str], rounds: Sequence[dict[str, float]], references: Sequence[str]) -> str:
    """Render a table of medians; ratios are taken within each round, with the 95 % interval of their median."""
    header = ["", "images/s (least to most)", *(f"times {names[reference]}" for reference in references)]
    rows = []
    for side in (side for side in names if side in rounds[0]):
        own = [one[side] for one in rounds]
        cells = [names[side], f"{statistics.median(own):.0f} ({min(own):.0f} to {max(own):.0f})"]
        for reference in references:
            cells.append(ratio_text(ratio_of(own, [one[reference] for one in rounds]), 3))
        rows.append(cells)
    return markdown_table(header, rows)


def main() -> None:
    """Measure and print two tables."""
    parser = argparse.ArgumentParser(description="Measure edge-run classify against the limit of the machine.")
    parser.add_argument("model", help="a .tflite file")
    parser.add_argument("photos", type=Path, help="a folder of photos, which are repeated")
    parser.add_argument("--labels", help="its labels, for a model without a manifest; it is cropped at the centre")
    parser.add_argument("--processes", type=int, default=3, help="generations of processes, for the steady rates")
    parser.add_argument("--rounds", type=int, default=8, help="rounds of each generation")
    parser.add_argument("--pictures", type=int, default=1000, help="images of a whole process")
    parser.add_argument("--wholes", type=int, default=5, help="rounds of whole processes")
    parser.add_argument("--mediapipe", metavar="PYTHON", help="a Python that has MediaPipe")
    arguments = parser.parse_args()
    photos = tuple(sorted(path.resolve() for path in arguments.photos.iterdir() if is_image_name(path)))
    setting = Setting(arguments.model, arguments.labels, photos, arguments.mediapipe)
    with tempfile.TemporaryDirectory() as scratch:
        steady = measure_steady(setting, Path(scratch), arguments.processes, arguments.rounds)
        wholes = measure_wholes(setting, Path(scratch), arguments.pictures, arguments.wholes)
    print(f"{len(photos)} photos, {len(steady)} rounds of at least {_SLICE} images\n")
    print(render(_STEADY, steady, ("limit", "busy", "plain", "same")))
    print(f"\n{arguments.pictures} images, {len(wholes)} rounds\n")
    print(render(_WHOLE, wholes, ("script",)))


class _Child:
    """Process that runs its list once for each line of input."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = " ".join(command)
        self._process = subprocess.Popen(
            command,
            env=compiled_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def __enter__(self) -> _Child:
        self.rate()  # the warm-up, while nothing else runs
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def start(self) -> None:
        """Start one more run."""
        if self._process.stdin:
            self._process.stdin.write(b"\n")
            self._process.stdin.flush()

    def rate(self) -> float:
        """Read the images a second of the run, once it has ended."""
        line = self._process.stdout.readline() if self._process.stdout else b""
        if not line:
            sys.exit(f"{self._command}: ended with exit code {self._process.wait()}")
        return float(line)


def _rate_together(children: Sequence[_Child]) -> float:
    """Measure the sum of images a second of children that run at once."""
    for child in children:
        child.start()
    return sum([child.rate() for child in children])


def _limit(paths: list[Path], found: ModelFile) -> Callable[[], float]:
    """Cores / processor seconds an image of decode + resize + invoke, in one thread."""
    classifier = Classifier(found)
    return lambda: core_count() / _cpu_s(classifier, paths)


def _busy(paths: list[Path], found: ModelFile) -> Callable[[], float]:
    """Measure the limit in a thread a core at once: cores that share caches or a clock take longer for an image."""
    cores = core_count()
    classifiers = [Classifier(found) for _ in range(cores)]
    pool = ThreadPoolExecutor(cores)
    return lambda: cores**2 / sum(pool.map(_cpu_s, classifiers, (paths[core::cores] for core in range(cores))))


def _pipeline(paths: list[Path], found: ModelFile) -> Callable[[], float]:
    """Measure ``edge-run classify`` without its start and its rows."""
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


def _plain(paths: list[Path], found: ModelFile) -> Callable[[], float]:
    """Measure the loop of ``plain_loop.py``."""
    classify = open_model(str(found.path))
    return lambda: _rate(lambda path: classify(str(path)), paths)


def _same(paths: list[Path], found: ModelFile) -> Callable[[], float]:
    """Measure a loop of one thread that makes the same pixels as ``edge-run``."""
    classifier = Classifier(found)

    def classify(path: Path) -> int:
        return int(np.argmax(classifier.engine.invoke(classifier.prepare(load_image(path))[np.newaxis])))

    return lambda: _rate(classify, paths)


_SIDES = {"limit": _limit, "busy": _busy, "pipeline": _pipeline, "plain": _plain, "same": _same}


def serve_side(side: str, model: str, list_file: str, labels: str | None = None) -> None:
    """Serve one side, in its process."""
    cv2.setNumThreads(1)
    paths = [Path(line) for line in Path(list_file).read_text(encoding="utf-8").splitlines()]
    options = ModelOptions(labels=read_labels_file(Path(labels)), crop=Crop.CENTER) if labels else None
    measure = _SIDES[side](paths, find_model(Path(model), None, options))
    print(measure(), flush=True)
    for _ in sys.stdin:
        print(measure(), flush=True)


def _cpu_s(classifier: Classifier, paths: list[Path]) -> float:
    started_s = time.thread_time()
    for path in paths:
        classifier.engine.invoke(classifier.prepare(load_image(path))[np.newaxis])
    return (time.thread_time() - started_s) / len(paths)


def _rate(classify: Callable[[Path], int], paths: list[Path]) -> float:
    started_s = time.perf_counter()
    for path in paths:
        classify(path)
    return len(paths) / (time.perf_counter() - started_s)


if __name__ == "__main__":
    if sys.argv[1:2] == ["child"]:
        serve_side(*sys.argv[2:])
    else:
        main()
