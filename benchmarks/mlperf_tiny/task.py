"""Files and images of the task, and conversion of its Keras model."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_runtime.contract import Crop, InputSpec, Variant
from edge_runtime.errors import DatasetError, EngineError
from edge_runtime.labels import shorten, to_text
from edge_runtime.model.bundle import read_bundle_manifest
from edge_runtime.workstation.datasets.decode import decode_all
from edge_runtime.workstation.datasets.index import LABELS_CSV, map_index_labels
from edge_runtime.workstation.datasets.resolve import resolve
from edge_runtime.workstation.datasets.samples import Sample, Split, write_split_csv

# https://www.cs.toronto.edu/~kriz/cifar.html, in the order of its class indices.
LABELS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SIDE = 32
KERAS_FILE = "pretrainedResnet.h5"
FLOAT_FILE = "pretrainedResnet.tflite"
INT8_FILE = "pretrainedResnet_quant.tflite"
EVALUATION = "eval"
INPUT_RANGE = (0.0, 255.0)
"""The published models take pixels as they are."""

TARGET = 0.85
"""Top-1 that a closed-division submission must reach: MLPerf Tiny's rules, image classification."""

# Hits of 200 as measured with the published files: h5 and float 85.5 %, int8 85.0 %. They hold for those images only.
KNOWN_IMAGES = 200
KNOWN_HITS = {KERAS_FILE: 171, FLOAT_FILE: 171, INT8_FILE: 170}

WHERE_FROM = (
    "take pretrainedResnet.h5, pretrainedResnet.tflite and pretrainedResnet_quant.tflite from "
    "benchmark/training/image_classification/trained_models of the project mlcommons/tiny, its evaluation images "
    f"(.bin files and {LABELS_CSV}) from the project eembc/energyrunner, folder datasets/ic01, put these into a folder "
    f"{EVALUATION} beside the models, and give the whole with --data FOLDER"
)


@dataclass(frozen=True)
class Task:
    """What is measured on.

    Attributes:
        folder: Holds the published files.
        samples: The evaluation images with the names of their classes; half calibrates our conversion (``train``),
            the other half checks it (``validation``).
        truth: int64 [N], class index of each.
        images_nhwc_rgb_u8: uint8 [N, 32, 32, 3].
    """

    folder: Path
    samples: tuple[Sample, ...]
    truth: NDArray[np.int64]
    images_nhwc_rgb_u8: NDArray[np.uint8]

    @property
    def held_out(self) -> NDArray[np.bool_]:
        """Which images, bool [N], our conversion was not calibrated with."""
        return np.array([sample.split is Split.VALIDATION for sample in self.samples])


def read_task(folder: Path) -> Task:
    """Find the published files and read the evaluation images.

    Raises:
        DatasetError: Something is missing, or is not what the project publishes.
    """
    wanted = [folder / name for name in (KERAS_FILE, FLOAT_FILE, INT8_FILE, f"{EVALUATION}/{LABELS_CSV}")]
    missing = [str(path.relative_to(folder)) for path in wanted if not path.is_file()]
    if missing:
        raise DatasetError(
            f"{folder}: expected the files of MLPerf Tiny, but {', '.join(missing)} is not there; {WHERE_FROM}"
        )
    dataset = resolve(str(folder / EVALUATION))
    samples = map_index_labels(dataset.samples, LABELS)
    unknown = sorted({sample.label for sample in samples} - set(LABELS))
    if unknown:
        raise DatasetError(f"{folder / EVALUATION}: expected class indices 0 to 9, got {unknown[0]!r}; {WHERE_FROM}")
    decoded = decode_all([sample.path for sample in samples], InputSpec(SIDE, SIDE, crop=Crop.STRETCH))
    if decoded.failures:
        index, reason = decoded.failures[0]
        raise DatasetError(f"{samples[index].path}: {reason}; {WHERE_FROM}")
    truth = np.array([LABELS.index(sample.label) for sample in samples])
    return Task(folder, halved(samples), truth, decoded.images_nhwc_rgb_u8)


def halved(samples: Sequence[Sample]) -> tuple[Sample, ...]:
    """Of every class, each second image calibrates, so that both halves have the same classes."""
    seen: dict[str, int] = {}
    result = []
    for sample in samples:
        seen[sample.label] = seen.get(sample.label, 0) + 1
        split = Split.TRAIN if seen[sample.label] % 2 == 0 else Split.VALIDATION
        result.append(replace(sample, split=split))
    return tuple(result)


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
        keras_images: Images of that half.
    """

    files: dict[Variant, Path]
    keras_accuracy: float | None
    keras_images: int


def convert(task: Task, scratch: Path) -> Converted:
    """Run ``edge-convert run`` in a process of its own.

    One half of the evaluation images calibrates and the other half checks: the images that CIFAR-10 trains with are
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
