"""How near ``edge-run classify`` of many photos comes to the limit of the machine, beside plain loops.

    python -m benchmarks.studies.folder_throughput MODEL.tflite PHOTOS [--labels FILE] [--processes 3] [--rounds 8]
        [--pictures 1000] [--wholes 5] [--mediapipe PYTHON]

Steady rates: each side is a process that stays open (one a core where it says so), and in each round every side runs
all photos, in an order drawn by chance, so that a machine whose speed drifts within minutes is the same one for all of
them. Several generations of processes, because where a process lies in memory moves its speed. Whole processes, from
their start to their last row, are measured after that, in turn.

The limit is cores / processor seconds an image of decode + resize + invoke, measured in the same round. Needed: 0.93
of the limit, and 1.9 times a plain loop of one interpreter and one thread. A plain loop on every core shows how much of
that the cores themselves give: with neighbours on its hardware a virtual core at work slows the other one.
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
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

from benchmarks.statistics import ratio_of
from benchmarks.studies.cold_start import as_installed
from edge_runtime.image_files import is_image_name
from edge_runtime.platform.board import core_count

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
    """What is measured.

    Attributes:
        model: A model file.
        labels: Its labels, or None where it carries a manifest.
        photos: The photos.
        mediapipe: A Python that has MediaPipe, or None.
    """

    model: str
    labels: str | None
    photos: tuple[Path, ...]
    mediapipe: str | None


def measure_steady(setting: Setting, scratch: Path, processes: int, rounds: int) -> list[dict[str, float]]:
    """Images a second of each side, round by round."""
    list_file = _write_list(setting, scratch, -(-_SLICE // len(setting.photos)) * len(setting.photos))
    given = [setting.model, str(list_file), *([setting.labels] if setting.labels else [])]
    child = [sys.executable, "-m", "benchmarks.studies.folder_child"]
    commands = {side: [*child, side, *given] for side in ("limit", "busy", "pipeline", "plain", "same")}
    commands["each"] = commands["plain"]
    if setting.mediapipe:
        script = str(Path(__file__).with_name("mediapipe_loop.py"))
        commands["mediapipe"] = [setting.mediapipe, script, setting.model, str(list_file)]
    chance = random.Random(0)  # noqa: S311  an order, not a secret
    measured = []
    for _ in range(processes):
        with contextlib.ExitStack() as stack:
            sides = {
                side: [stack.enter_context(_Child(command)) for _ in range(core_count() if side == "each" else 1)]
                for side, command in commands.items()
            }
            for _ in range(rounds):
                rates = {side: _rate(sides[side]) for side in chance.sample(list(sides), len(sides))}
                print({side: round(rates[side], 1) for side in sides}, file=sys.stderr)
                measured.append(rates)
    return measured


def measure_wholes(setting: Setting, scratch: Path, images: int, rounds: int) -> list[dict[str, float]]:
    """Images a second of whole processes that write a row for each image, in turn, after a round of warming up."""
    list_file = _write_list(setting, scratch, images)
    rows = scratch / "rows"
    edge_run = [str(Path(sys.executable).with_name("edge-run")), "classify", setting.model, "--list", str(list_file)]
    edge_run += ["--format", "jsonl"]
    edge_run += ["--labels", setting.labels, "--crop", "center"] if setting.labels else []
    script = [sys.executable, str(Path(__file__).with_name("plain_loop.py")), setting.model, str(list_file)]
    measured = []
    for _ in range(rounds + 1):
        rates = {}
        for side, command in (("edge-run", edge_run), ("script", script)):
            started_s = time.perf_counter()
            with rows.open("wb") as out:
                done = subprocess.run(command, env=as_installed(), stdout=out, stderr=subprocess.PIPE, check=False)
            rates[side] = images / (time.perf_counter() - started_s)
            if done.returncode or rows.read_bytes().count(b"\n") != images:
                sys.exit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr.decode()}")
        print({side: round(rate, 1) for side, rate in rates.items()}, file=sys.stderr)
        measured.append(rates)
    return measured[1:]


def render(names: dict[str, str], rounds: Sequence[dict[str, float]], references: Sequence[str]) -> str:
    """A table of medians; ratios are taken within each round, with the 95 % interval of their median."""
    columns = ["images/s (least to most)", *(f"times {names[reference]}" for reference in references)]
    lines = [f"| | {' | '.join(columns)} |", "| --- |" + " ---: |" * len(columns)]
    for side in (side for side in names if side in rounds[0]):
        own = [one[side] for one in rounds]
        cells = [f"{statistics.median(own):.0f} ({min(own):.0f} to {max(own):.0f})"]
        for reference in references:
            ratio = ratio_of(own, [one[reference] for one in rounds])
            span = f" ({ratio.interval.low:.3f} to {ratio.interval.high:.3f})" if ratio.interval else ""
            cells.append(f"{ratio.median:.3f}{span}")
        lines.append(f"| {names[side]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print two tables."""
    parser = argparse.ArgumentParser(description="edge-run classify against the limit of the machine.")
    parser.add_argument("model", help="a .tflite file")
    parser.add_argument("photos", type=Path, help="a folder of photos, which are repeated")
    parser.add_argument("--labels", help="its labels, for a model without a manifest; it is cropped at the centre")
    parser.add_argument("--processes", type=int, default=3, help="generations of processes, for the steady rates")
    parser.add_argument("--rounds", type=int, default=8, help="rounds of each generation")
    parser.add_argument("--pictures", type=int, default=1000, help="of a whole process")
    parser.add_argument("--wholes", type=int, default=5, help="rounds of whole processes")
    parser.add_argument("--mediapipe", metavar="PYTHON", help="a Python that has MediaPipe")
    asked = parser.parse_args()
    photos = tuple(sorted(path.resolve() for path in asked.photos.iterdir() if is_image_name(path)))
    setting = Setting(asked.model, asked.labels, photos, asked.mediapipe)
    with tempfile.TemporaryDirectory() as scratch:
        steady = measure_steady(setting, Path(scratch), asked.processes, asked.rounds)
        wholes = measure_wholes(setting, Path(scratch), asked.images, asked.wholes)
    print(f"{len(photos)} photos, {len(steady)} rounds of at least {_SLICE} images\n")
    print(render(_STEADY, steady, ("limit", "busy", "plain", "same")))
    print(f"\n{asked.images} images, {len(wholes)} rounds\n")
    print(render(_WHOLE, wholes, ("script",)))


class _Child:
    """A process that runs its list once for each line it is sent."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = " ".join(command)
        self._process = subprocess.Popen(
            command, env=as_installed(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )

    def __enter__(self) -> _Child:
        self.rate()  # its round of warming up, while nothing else runs
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def ask(self) -> None:
        """Start one more run."""
        if self._process.stdin:
            self._process.stdin.write(b"\n")
            self._process.stdin.flush()

    def rate(self) -> float:
        """Images a second of the run, once it has ended."""
        line = self._process.stdout.readline() if self._process.stdout else b""
        if not line:
            sys.exit(f"{self._command}: ended with exit code {self._process.wait()}")
        return float(line)


def _rate(children: Sequence[_Child]) -> float:
    """Images a second of children that run at once, together."""
    for child in children:
        child.ask()
    return sum([child.rate() for child in children])


def _write_list(setting: Setting, scratch: Path, images: int) -> Path:
    file = scratch / f"{images}.txt"
    file.write_text("".join(f"{path}\n" for path in islice(cycle(setting.photos), images)), encoding="utf-8")
    return file


if __name__ == "__main__":
    main()
