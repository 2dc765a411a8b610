"""How near ``edge-run classify`` of many photos comes to the limit of the machine, beside plain loops.

    python -m benchmarks.studies.folder_throughput MODEL.tflite PHOTOS [--labels FILE] [--pictures 1000] [--rounds 5]
        [--mediapipe PYTHON]

All sides run in turn, round after round (A B C A B C ...), each in a process of its own, after one round that does not
count. The limit is cores / processor seconds a picture of decode + resize + invoke, measured in the same round. Needed:
``edge-run`` at 0.93 of the limit, and 1.9 times a plain loop of one interpreter and one thread. There are two of these:
one as it is usually written, and one that makes the same pixels.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

from benchmarks.studies.cold_start import as_installed
from edge_runtime.picture_names import is_image_name

_WHOLE = "edge-run classify, whole process"
_NAMES = {
    "limit": "limit: cores / processor time",
    "busy": "the same with every core at work",
    "pipeline": "edge-run's pipeline, steady",
    "whole": _WHOLE,
    "plain": "plain loop with cv2.resize, steady",
    "same": "plain loop with the same pixels, steady",
    "mediapipe": "MediaPipe's ImageClassifier, steady",
}


@dataclass(frozen=True)
class Setting:
    """What is measured.

    Attributes:
        model: A model file.
        labels: Its labels, or None where it carries a manifest.
        list_file: The photos, one a line.
        pictures: How many lines those are.
        mediapipe: A Python that has MediaPipe, or None.
    """

    model: str
    labels: str | None
    list_file: str
    pictures: int
    mediapipe: str | None


def measure_round(setting: Setting) -> dict[str, float]:
    """Pictures a second of each side, once in turn."""
    child = [sys.executable, "-m", "benchmarks.studies.folder_child"]
    given = [setting.model, setting.list_file, *([setting.labels] if setting.labels else [])]
    rates = {side: _rate([*child, side, *given]) for side in ("limit", "busy", "pipeline")}
    rates["whole"] = setting.pictures / _whole_s(setting)
    rates.update({side: _rate([*child, side, *given]) for side in ("plain", "same")})
    if setting.mediapipe:
        script = str(Path(__file__).with_name("mediapipe_loop.py"))
        rates["mediapipe"] = _rate([setting.mediapipe, script, setting.model, setting.list_file])
    return rates


def render(rounds: Sequence[dict[str, float]]) -> str:
    """A table of medians; ratios are taken within each round."""
    columns = ("pictures/s", "of the limit", "of it at work", "times the plain loop", "times that with the same pixels")
    lines = [f"| | {' | '.join(columns)} |", "| --- |" + " ---: |" * len(columns)]
    for side, name in _NAMES.items():
        if side in rounds[0]:
            cells = [_spread([one[side] for one in rounds], ".0f")]
            cells += [
                _spread([one[side] / one[other] for one in rounds], ".3f")
                for other in ("limit", "busy", "plain", "same")
            ]
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description="edge-run classify against the limit of the machine.")
    parser.add_argument("model", help="a .tflite file")
    parser.add_argument("photos", type=Path, help="a folder of photos, which are repeated")
    parser.add_argument("--labels", help="its labels, for a model without a manifest; it is cropped at the centre")
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mediapipe", metavar="PYTHON", help="a Python that has MediaPipe")
    asked = parser.parse_args()
    photos = sorted(path.resolve() for path in asked.photos.iterdir() if is_image_name(path))
    with tempfile.TemporaryDirectory() as scratch:
        list_file = Path(scratch, "list.txt")
        list_file.write_text("".join(f"{path}\n" for path in islice(cycle(photos), asked.pictures)), encoding="utf-8")
        setting = Setting(asked.model, asked.labels, str(list_file), asked.pictures, asked.mediapipe)
        rounds = []
        for number in range(asked.rounds + 1):
            rates = measure_round(setting)
            print(number or "warm-up", {side: round(rate, 1) for side, rate in rates.items()}, file=sys.stderr)
            rounds.append(rates)
    print(f"{len(photos)} photos, {asked.pictures} pictures, {asked.rounds} rounds; median (least to most)\n")
    print(render(rounds[1:]))


def _rate(command: Sequence[str]) -> float:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr}")
    return float(json.loads(done.stdout.splitlines()[-1])["rate"])


def _whole_s(setting: Setting) -> float:
    """Wall seconds of one ``edge-run classify``, from the start of its process to its end."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [str(Path(sys.executable).with_name("edge-run")), "classify", setting.model]
        command += ["--list", setting.list_file, "--output", f"{scratch}/rows.jsonl"]
        command += ["--labels", setting.labels, "--crop", "center"] if setting.labels else []
        started_s = time.perf_counter()
        done = subprocess.run(command, env=as_installed(), capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - started_s
        rows = Path(scratch, "rows.jsonl").read_text(encoding="utf-8").count("\n") if done.returncode == 0 else 0
    if rows != setting.pictures:
        sys.exit(f"{_WHOLE}: {rows} rows of {setting.pictures}\n{done.stderr}")
    return seconds


def _spread(values: Sequence[float], form: str) -> str:
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


if __name__ == "__main__":
    main()
