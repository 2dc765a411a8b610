"""Files and images of the task, and conversion of its Keras model."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.processes import run_process
from edge_runtime.contract import Crop, InputSpec, Variant, labels_to_text
from edge_runtime.errors import DatasetError, EngineError
from edge_runtime.model.bundle import read_bundle_manifest
from edge_runtime.workstation.datasets.decode import decode_all
from edge_runtime.workstation.datasets.resolve import resolve
from edge_runtime.workstation.datasets.samples import LABELS_CSV, Sample, Split, map_index_labels, write_split_csv

# https://www.cs.toronto.edu/~kriz/cifar.html, in the order of its class indices.
LABELS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SIDE = 32
KERAS_FILE = "pretrainedResnet.h5"
FLOAT_FILE = "pretrainedResnet.tflite"
INT8_FILE = "pretrainedResnet_quant.tflite"
EVALUATION = "eval"
INPUT_RANGE = (0.0, 255.0)
"""Input range of the published models: pixels unchanged."""
TARGET = 0.85
"""Top-1 that a closed-division submission must reach: MLPerf Tiny's rules, image classification."""
KNOWN_IMAGES = 200
KNOWN_HITS = {KERAS_FILE: 171, FLOAT_FILE: 171, INT8_FILE: 170}
"""Hits of 200 as measured with the published files: h5 and float 85.5 %, int8 85.0 %; for those images only."""
VARIANTS = (Variant.FLOAT32, Variant.INT8)
_NAME = "resnet8"
_CONVERSION_TIMEOUT_S = 1800.0
_WHERE_FROM = (
    "take pretrainedResnet.h5, pretrainedResnet.tflite and pretrainedResnet_quant.tflite from "
    "benchmark/training/image_classification/trained_models of the project mlcommons/tiny, its evaluation images "
    f"(.bin files and {LABELS_CSV}) from the project eembc/energyrunner, folder datasets/ic01, put these into a folder "
    f"{EVALUATION} beside the models, and give the whole with --data FOLDER"
)


@dataclass(frozen=True)
class Task:
    """Published files and evaluation images.

    Attributes:
        folder: Folder of the published files.
        samples: Evaluation images with the names of their classes; half calibrates our conversion (``train``), the
            other half checks it (``validation``).
        truth: Class index of each image, int64 [N].
        images_nhwc_rgb_u8: Pixels, uint8 [N, 32, 32, 3].
    """

    folder: Path
    samples: tuple[Sample, ...]
    truth: NDArray[np.int64]
    images_nhwc_rgb_u8: NDArray[np.uint8]

    @property
    def held_out(self) -> NDArray[np.bool_]:
        """Mask of the images, bool [N], that our conversion was not calibrated with."""
        return np.array([sample.split is Split.VALIDATION for sample in self.samples])


def read_task(folder: Path) -> Task:
    """Find the published files and read the evaluation images.

    Raises:
        DatasetError: A file is missing, or is not the published one.
    """
    wanted = [folder / name for name in (KERAS_FILE, FLOAT_FILE, INT8_FILE, f"{EVALUATION}/{LABELS_CSV}")]
    missing = [str(path.relative_to(folder)) for path in wanted if not path.is_file()]
    if missing:
        raise DatasetError(
            f"{folder}: expected the files of MLPerf Tiny, but {', '.join(missing)} is not there; {_WHERE_FROM}"
        )
    dataset = resolve(str(folder / EVALUATION))
    samples = map_index_labels(dataset.samples, LABELS)
    unknown = sorted({sample.label for sample in samples} - set(LABELS))
    if unknown:
        raise DatasetError(f"{folder / EVALUATION}: expected class indices 0 to 9, got {unknown[0]!r}; {_WHERE_FROM}")
    decoded = decode_all([sample.path for sample in samples], InputSpec(SIDE, SIDE, crop=Crop.STRETCH))
    if decoded.failures:
        index, reason = decoded.failures[0]
        raise DatasetError(f"{samples[index].path}: {reason}; {_WHERE_FROM}")
    truth = np.array([LABELS.index(sample.label) for sample in samples])
    return Task(folder, halved(samples), truth, decoded.images_nhwc_rgb_u8)


def halved(samples: Sequence[Sample]) -> tuple[Sample, ...]:
    """Mark every second image of each class for calibration, so that both halves have the same classes."""
    seen: dict[str, int] = {}
    result = []
    for sample in samples:
        seen[sample.label] = seen.get(sample.label, 0) + 1
        split = Split.TRAIN if seen[sample.label] % 2 == 0 else Split.VALIDATION
        result.append(replace(sample, split=split))
    return tuple(result)


def convert(task: Task, scratch: Path) -> tuple[dict[Variant, Path], float | None]:
    """Run ``edge-convert run`` in a process of its own.

    One half of the evaluation images calibrates and the other half checks: the images that CIFAR-10 trains with are
    not part of the task's files. Accuracy is then measured on both, so that the calibrated half flatters int8 a little;
    the table has the other half too.

    Returns:
        Our files by variant, and the accuracy, 0..1, of the published Keras model on the half that checks; None where
        the conversion did not measure it.

    Raises:
        EngineError: The conversion failed.
    """
    labels, images, bundle = scratch / "labels.txt", scratch / "images.csv", scratch / "bundle"
    labels.write_text(labels_to_text(LABELS), encoding="utf-8")
    write_split_csv(images, task.samples)
    command = [str(Path(sys.executable).with_name("edge-convert")), "run", str(task.folder / KERAS_FILE)]
    command += ["--labels", str(labels), f"--input-range={INPUT_RANGE[0]:g},{INPUT_RANGE[1]:g}", "--crop", "stretch"]
    command += ["--calibration", str(images), "--name", _NAME, "--out", str(bundle), "--max-drop", "100"]
    for variant in VARIANTS:
        command += ["--variant", variant.value]
    try:
        run_process(command, _CONVERSION_TIMEOUT_S)
    except EngineError as error:
        raise EngineError(f"edge-convert could not convert {KERAS_FILE}: {error}") from error
    artifacts = {artifact.variant: artifact for artifact in read_bundle_manifest(bundle).artifacts}
    check = artifacts[Variant.FLOAT32].check
    files = {variant: bundle / artifacts[variant].file for variant in VARIANTS}
    return files, check.keras_accuracy if check else None
