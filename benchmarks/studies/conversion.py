"""Duration and results of a conversion: the tables on conversion in RESULTS.md.

    python -m benchmarks.studies.conversion RUN [OPTION ...]

Times ``edge-convert run RUN`` as a whole process, prints its record of each variant, and then times one invoke of
float32 and of each other TFLite variant in turns, one thread, as ratios pair by pair, so that the machine's noise meets
both.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.studies.common import installed_program, run_whole
from edge_runtime.classifier import Classifier
from edge_runtime.workstation.reporting.wording import markdown_table

_ROUNDS, _INVOKES, _WARM_UP = 5, 60, 10
# Its kernels are not XNNPACK's: one invoke takes as long as thirty of the others.
_SLOW = "int16x8"
_HEADER = ("variant", "size", "change, points (95 %)", "agreement", "largest difference", "how")


def convert(run: str, options: Sequence[str], bundle: Path) -> float:
    """Time one ``edge-convert run`` in seconds; a variant that fails its check (exit code 8) is no error here."""
    command = [installed_program("edge-convert"), "run", run, "--out", str(bundle), *options]
    return run_whole(command, good=(0, 8)).wall_ns / 1e9


def variant_table(record: dict[str, Any]) -> str:
    """Render the table of the variants that were measured."""
    rows = []
    for entry in record["variants"]:
        found, check = entry["comparison"], entry["comparison"]["check"]
        low, high = found["drop_interval_points"]
        steps = "; ".join(f"{s['description']}: {s['accuracy']:.1%}, {s['agreement']:.1%}" for s in entry["steps"])
        rows.append(
            (
                entry["artifact"]["variant"] + ("" if check["passed"] else " **failed**"),
                f"{entry['artifact']['bytes'] / 1e6:.3f} MB",
                f"{0.0 - found['drop_points']:+.2f} ({-high:+.2f} to {-low:+.2f})",
                f"{check['agreement']:.1%}",
                f"{check['max_probability_difference']:.1e}",
                steps,
            )
        )
    return markdown_table(_HEADER, rows, text_columns=(0, 5), shown=str)


def latency_ratios(bundle: Path) -> dict[str, tuple[float, float]]:
    """Measure the median latency in milliseconds, and the median ratio to float32 of the same round, by file."""
    files = sorted(file for file in bundle.glob("*.tflite") if _SLOW not in file.name)
    classifiers = {file.stem: Classifier(file) for file in files}
    base = next(name for name in classifiers if name.endswith("-float32"))
    seconds: dict[str, list[float]] = {name: [] for name in classifiers}
    pixels = np.full((1, *classifiers[base].engine.input.shape[1:]), 128, np.uint8)
    for classifier in classifiers.values():
        _invoke(classifier, pixels, _WARM_UP)
    for _ in range(_ROUNDS):
        times: dict[str, list[float]] = {name: [] for name in classifiers}
        for _ in range(_INVOKES):
            for name, classifier in classifiers.items():
                times[name] += _invoke(classifier, pixels, 1)
        for name, values in times.items():
            seconds[name].append(float(np.median(values)))
    return {
        name: (float(np.median(values)) * 1e3, float(np.median(np.divide(values, seconds[base]))))
        for name, values in seconds.items()
    }


def _invoke(classifier: Classifier, pixels: NDArray[np.uint8], count: int) -> list[float]:
    times = []
    for _ in range(count):
        started = time.perf_counter()
        classifier.engine.invoke(pixels)
        times.append(time.perf_counter() - started)
    return times


def main() -> None:
    """Convert once and print the tables."""
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    run, options = sys.argv[1], sys.argv[2:]
    with tempfile.TemporaryDirectory() as scratch:
        bundle = Path(scratch) / "bundle"
        seconds = convert(run, options, bundle)
        record = json.loads((bundle / "conversion.json").read_text(encoding="utf-8"))
        keras = record["variants"][0]["comparison"]["check"]["keras_accuracy"]
        print(f"{record['machine']}; converted in {seconds:.1f} s; Keras {keras:.1%} of {record['check_images']}\n")
        print(variant_table(record))
        for point in record["calibration"]["points"]:
            print(f"calibrated with {point['images']}: {point['accuracy']:.1%}, agreement {point['agreement']:.1%}")
        for name, (latency_ms, ratio) in latency_ratios(bundle).items():
            print(f"{name}: {latency_ms:.3f} ms, {ratio:.3f} of float32")


if __name__ == "__main__":
    main()
