"""Our own conversion of the published Keras model, by the program that users have."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.mlperf_tiny.task import INPUT_RANGE, KERAS_FILE, LABELS, Task
from edge_runtime.contract import Variant
from edge_runtime.datasets.samples import write_split_csv
from edge_runtime.errors import EngineError
from edge_runtime.labels import shorten, to_text
from edge_runtime.modelfile import read_bundle_manifest

VARIANTS = (Variant.FLOAT32, Variant.INT8)
_NAME = "resnet8"
_TIMEOUT_S = 1800.0


@dataclass(frozen=True)
class Converted:
    """Our files.

    Attributes:
        files: By variant.
        keras_accuracy: Of the published Keras model on the half that checks, as the conversion measured it; None where
            it did not.
        keras_pictures: Pictures of that half.
    """

    files: dict[Variant, Path]
    keras_accuracy: float | None
    keras_pictures: int


def convert(task: Task, scratch: Path) -> Converted:
    """Run ``edge-convert run`` in a process of its own.

    One half of the evaluation pictures calibrates and the other half checks: the pictures that CIFAR-10 trains with are
    not part of the task's files. Accuracy is then measured on both, so that the calibrated half flatters int8 a little;
    the table tells the other half apart.

    Raises:
        EngineError: The conversion failed.
    """
    labels, pictures, bundle = scratch / "labels.txt", scratch / "pictures.csv", scratch / "bundle"
    labels.write_text(to_text(LABELS), encoding="utf-8")
    write_split_csv(pictures, task.samples)
    command = [str(Path(sys.executable).with_name("edge-convert")), "run", str(task.folder / KERAS_FILE)]
    command += ["--labels", str(labels), f"--input-range={INPUT_RANGE[0]:g},{INPUT_RANGE[1]:g}", "--crop", "stretch"]
    command += ["--calibration", str(pictures), "--name", _NAME, "--out", str(bundle), "--max-drop", "100"]
    for variant in VARIANTS:
        command += ["--variant", variant.value]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineError(f"edge-convert could not convert {KERAS_FILE} ({error})") from error
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["without a word"]
        raise EngineError(f"edge-convert could not convert {KERAS_FILE}: {shorten(lines[-1], 300)}")
    artifacts = {artifact.variant: artifact for artifact in read_bundle_manifest(bundle).artifacts}
    check = artifacts[Variant.FLOAT32].check
    return Converted(
        {variant: bundle / artifacts[variant].file for variant in VARIANTS},
        check.keras_accuracy if check else None,
        check.images if check else 0,
    )
