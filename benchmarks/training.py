"""How long ``edge-train`` takes beside the notebook way, to the same accuracy on the same photos.

    python -m benchmarks.training DATA WEIGHTS.h5 ALPHA [RUNS]

Both are whole processes from a cold start, in turn (A B A B ...): ``edge-train run --recipe mobilenetv2`` without
fine-tuning and with an empty cache, report and evaluation included, and ``benchmarks/notebook_way.py`` until its
validation accuracy first reaches that of the other, or to its end.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

_EPOCHS = 10
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
        return Timing(seconds, metrics["splits"]["validation"]["accuracy"])


def time_notebook(data: str, weights: str, alpha: str, learning_rate: float, target: float) -> tuple[Timing, Timing]:
    """One run of the notebook way: when it first reached ``target`` (or ended), and when it ended."""
    command = [sys.executable, str(_NOTEBOOK), data, weights, alpha, str(_EPOCHS), str(learning_rate)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    timings = [Timing(line["seconds"], line["accuracy"]) for line in lines]
    return next((timing for timing in timings if timing.accuracy >= target), timings[-1]), timings[-1]


def main(data: str, weights: str, alpha: str, runs: int) -> None:
    """Measure in turn and print a table."""
    print("| way | to the accuracy of edge-train | all 10 epochs | validation accuracy | times as long |")
    print("| --- | ---: | ---: | ---: | ---: |")
    ours: list[Timing] = []
    theirs: dict[float, list[tuple[Timing, Timing]]] = {1e-4: [], 1e-3: []}
    for _ in range(runs):
        ours.append(time_edge_train(data, weights))
        for rate, results in theirs.items():
            results.append(time_notebook(data, weights, alpha, rate, ours[-1].accuracy))
    seconds = statistics.median(timing.seconds for timing in ours)
    accuracy = statistics.median(timing.accuracy for timing in ours)
    print(f"| edge-train, everything | {seconds:.1f} s | {seconds:.1f} s | {accuracy:.1%} | 1.0 |")
    for rate, results in theirs.items():
        reached = statistics.median(first.seconds for first, _ in results)
        whole = statistics.median(last.seconds for _, last in results)
        best = statistics.median(first.accuracy for first, _ in results)
        mark = "" if best >= accuracy else "not reached, "
        ratio = statistics.median(first.seconds / our.seconds for (first, _), our in zip(results, ours, strict=True))
        print(f"| notebook, Adam {rate:g} | {mark}{reached:.1f} s | {whole:.1f} s | {best:.1%} | {ratio:.1f} |")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]) if len(sys.argv) > 4 else 3)
