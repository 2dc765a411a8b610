"""Process that gets damaged files and hands each to the code that reads such files; see `tests/fuzz/run.py`.

One line of JSON comes in for each case, ``kind`` and ``path``, and one goes out: ``outcome``, ``seconds``, ``peak_mb``.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np

from edge_runtime.classifier import Classifier
from edge_runtime.contract import Crop
from edge_runtime.errors import EdgeKitError
from edge_runtime.model.bundle import ModelOptions, forget_passes, read_bundle_manifest
from edge_runtime.preprocess import load_image
from edge_runtime.workstation.datasets.resolve import resolve

OPTIONS = ModelOptions(("red", "green", "blue"), Crop.STRETCH)


def classify(path: Path) -> None:
    """Open a model as edge-run does, and classify one image."""
    forget_passes()
    with Classifier(path, options=OPTIONS) as classifier:
        classifier.classify(np.zeros((8, 8, 3), np.uint8))


TARGETS: dict[str, Callable[[Path], object]] = {
    "image": load_image,
    "tflite": classify,
    "onnx": classify,
    "manifest": lambda path: read_bundle_manifest(path.parent),
    "zip": lambda path: resolve(str(path)),
}


def peak_mb() -> int:
    """Peak resident memory of this process and of its living children since `reset_peak`."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    peaks = []
    for pid in ("self", *children):
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            continue
        peaks += [int(line.split()[1]) // 1000 for line in status.splitlines() if line.startswith("VmHWM")]
    return max(peaks)


def main() -> None:
    """Answer one line after another."""
    answers = os.fdopen(os.dup(1), "w")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    for line in sys.stdin:
        case = json.loads(line)
        Path("/proc/self/clear_refs").write_text("5")
        began, outcome = time.perf_counter(), "accepted"
        try:
            TARGETS[case["kind"]](Path(case["path"]))
        except EdgeKitError:
            outcome = "refused"
        except BaseException:  # noqa: BLE001 - whatever it is, it is a fault
            outcome = traceback.format_exc()
        answer = {"outcome": outcome, "seconds": time.perf_counter() - began, "peak_mb": peak_mb()}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
