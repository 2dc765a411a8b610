"""How long ``edge-train`` takes beside the notebook way, to the same accuracy on the same photos.

    python -m benchmarks.studies.training DATA WEIGHTS.h5 ALPHA [RUNS]

Both are whole processes from a cold start, in turn (A B A B ...): ``edge-train run --recipe mobilenetv2`` without
fine-tuning and with an empty cache, report and evaluation included, and ``notebook_way.py`` until its
validation accuracy first reaches that of the other, or for 15 epochs. DATA holds ``train`` and ``validation``; the
accuracy of both is over all images of ``validation``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

_EPOCHS, _NOTEBOOK_EPOCHS = 10, 15
_NOTEBOOK = Path(__file__).with_name("notebook_way.py")


@dataclass(frozen=True)
class Timing:
    """Wall seconds of a whole process, and the validation accuracy 0..1 that it reached."""

    seconds: float
    accuracy: float


def time_edge_train(data: str, weights: str) -> Timing:
    """One ``edge-train run`` of the head, with nothing in the cache."""
    with tempfile.TemporaryDirectory() as scratch:
        program = Path(sys.executable).with_name("edge-train")
        command: list[str | Path] = [program, "run", "--data", data, "--recipe", "mobilenetv2", "--weights", weights]
        options = ["--out", f"{scratch}/run", "--set", "finetune.epochs=0", "--epochs", str(_EPOCHS)]
        started = time.perf_counter()
        subprocess.run(
            [*command, *options], env={**os.environ, "EDGEKIT_CACHE": scratch}, check=True, capture_output=True
        )
        seconds = time.perf_counter() - started
        metrics = json.loads(Path(scratch, "run", "metrics.json").read_text(encoding="utf-8"))
        # A part of the folder is the run's test.
        parts = [metrics["splits"][name] for name in ("validation", "test")]
        right = sum(part["accuracy"] * part["images"] for part in parts)
        return Timing(seconds, right / sum(part["images"] for part in parts))


def time_notebook(data: str, weights: str, alpha: str, learning_rate: float, target: float) -> list[Timing]:
    """One run of the notebook way, epoch by epoch, until it reaches ``target`` or ends."""
    command = [sys.executable, str(_NOTEBOOK), data, weights, alpha, str(_NOTEBOOK_EPOCHS), str(learning_rate)]
    timings: list[Timing] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        for line in process.stdout or ():
            if line.startswith("{"):
                found = json.loads(line)
                timings.append(Timing(found["seconds"], found["accuracy"]))
                if timings[-1].accuracy >= target - 1e-6 and len(timings) >= _EPOCHS:
                    process.terminate()
    return timings


def main(data: str, weights: str, alpha: str, runs: int) -> None:
    """Measure in turn and print a table."""
    print("| way | validation accuracy | to that accuracy | 10 epochs | edge-train is faster by |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for number in range(1, runs + 1):
        ours = time_edge_train(data, weights)
        print(f"| edge-train, run {number} | {ours.accuracy:.1%} | {ours.seconds:.1f} s | {ours.seconds:.1f} s | |")
        for rate in (1e-4, 1e-3):
            timings = time_notebook(data, weights, alpha, rate, ours.accuracy)
            reached = next((timing for timing in timings if timing.accuracy >= ours.accuracy - 1e-6), None)
            last = reached or timings[-1]
            best = max(timing.accuracy for timing in timings)
            when = f"{last.seconds:.1f} s" if reached else f"not in {len(timings)} epochs, {last.seconds:.1f} s"
            ratio = f"{'' if reached else '> '}{last.seconds / ours.seconds:.1f} x"
            whole = timings[min(_EPOCHS, len(timings)) - 1].seconds
            print(f"| notebook, Adam {rate:g} | {best:.1%} | {when} | {whole:.1f} s | {ratio} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]) if len(sys.argv) > 4 else 3)
