"""Choose the calibration, check and golden images of a conversion and decode them once into arrays on disk."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convert.children import CHECK_FILE, GOLDEN_INPUT_FILE, REPRESENTATIVE_FILE, TRUTH_FILE
from convert.source.model_source import ModelSource
from edge_runtime.contract import Manifest
from edge_runtime.errors import DatasetError, UsageError
from edge_runtime.model.bundle import file_sha256
from edge_runtime.progress import progress_bar
from edge_runtime.workstation.datasets.decode import decode_all
from edge_runtime.workstation.datasets.resolve import resolve
from edge_runtime.workstation.datasets.samples import SPLIT_FILE, Sample, Split, map_index_labels, read_split_csv

_GOLDEN_COUNT = 8
_SHOWN_LABELS = 5


@dataclass(frozen=True)
class ConversionImages:
    """Labelled images of one conversion, with the model's labels.

    Attributes:
        representative: Calibration images from the training split, stratified by class.
        check: Check images from the validation split.
        golden: Few check images, stratified by class, that the bundle stores.
        seed: Seed that chose the images.
    """

    representative: tuple[Sample, ...]
    check: tuple[Sample, ...]
    golden: tuple[Sample, ...]
    seed: int


def choose_images(
    source: ModelSource, run: Path, calibration: str | None, calibration_images: int, seed: int | None
) -> ConversionImages:
    """Choose calibration images from the training split only, and check images from the validation split.

    In a set without one of the two splits, all images take its place. ``calibration`` is a SRC to use instead of the
    images that the run directory lists; without a seed, the run's is taken, or 0.

    Raises:
        UsageError: The path is no run directory and ``calibration`` is None.
        DatasetError: The images are missing, or their labels are not the model's.
    """
    found = resolve(calibration, progress=progress_bar).samples if calibration else _own_samples(run)
    labels = source.manifest.labels
    samples = map_index_labels(found, labels)
    if not samples:
        raise DatasetError(f"{calibration or run}: expected labelled images to calibrate and check with, got none")
    unknown = sorted({sample.label for sample in samples} - set(labels))
    if unknown:
        shown = ", ".join(unknown[:_SHOWN_LABELS]) + (", ..." if len(unknown) > _SHOWN_LABELS else "")
        known = ", ".join(labels[:_SHOWN_LABELS]) + (", ..." if len(labels) > _SHOWN_LABELS else "")
        raise DatasetError(
            f"{calibration or run}: holds labels the model does not know: {shown}; expected only {known}"
        )
    if seed is None:
        seed = source.manifest.training.seed if source.manifest.training else 0
    train = [sample for sample in samples if sample.split in (Split.TRAIN, None)] or list(samples)
    check = [sample for sample in samples if sample.split is Split.VALIDATION] or list(samples)
    return ConversionImages(
        representative=stratified(train, calibration_images, seed),
        check=tuple(check),
        golden=stratified(check, _GOLDEN_COUNT, seed),
        seed=seed,
    )


def stratified(samples: Sequence[Sample], count: int, seed: int) -> tuple[Sample, ...]:
    """Choose up to ``count`` images round-robin over the classes, each class in seeded random order."""
    rng = np.random.default_rng(seed)
    queues = []
    for label in sorted({sample.label for sample in samples}):
        members = [sample for sample in samples if sample.label == label]
        queues.append([members[index] for index in rng.permutation(len(members))])
    turns = itertools.zip_longest(*queues)
    return tuple(sample for turn in turns for sample in turn if sample is not None)[:count]


def list_sha256(samples: Iterable[Sample]) -> str:
    """Compute a SHA-256 over the sorted (file hash, label) pairs of images, independent of names and order.

    Raises:
        DatasetError: An image cannot be read.
    """
    lines = []
    for sample in samples:
        try:
            lines.append(f"{sample.sha256 or file_sha256(sample.path)} {sample.label}")
        except OSError as error:
            raise DatasetError(f"{sample.path}: cannot be read ({error.strerror})") from error
    return hashlib.sha256("\n".join(sorted(lines)).encode(errors="surrogateescape")).hexdigest()


def _own_samples(run: Path) -> tuple[Sample, ...]:
    if not (run / SPLIT_FILE).is_file():
        raise UsageError(
            f"{run}: has no images of its own; add --calibration SRC: a folder of class folders, a zip or URL of "
            "one, or a CSV"
        )
    samples = read_split_csv(run / SPLIT_FILE)
    missing = next((sample.path for sample in samples if not sample.path.is_file()), None)
    if missing:
        raise DatasetError(
            f"{run}: its images are not here (such as {missing}); "
            "give labelled images with --calibration: a folder of class folders, a zip or URL of one, or a CSV"
        )
    return samples


@dataclass(frozen=True)
class ImageArrays:
    """Images that could be decoded; their pixels lie in the work folder.

    Attributes:
        representative: Calibration images, in the order of the array.
        check: Check images, in the order of the array.
        split: Name of the check images' split.
        seed: Seed that chose the images.
    """

    representative: tuple[Sample, ...]
    check: tuple[Sample, ...]
    split: str
    seed: int


def write_arrays(
    manifest: Manifest, images: ConversionImages, work_dir: Path, report: Callable[[str], None]
) -> ImageArrays:
    """Decode the chosen images into the work folder, with the label index of each check image.

    Raises:
        DatasetError: No image of a group can be read.
    """
    total = len(images.representative) + len(images.check) + len(images.golden)
    with progress_bar("decoding", total) as advance:

        def decode(samples: Sequence[Sample]) -> tuple[NDArray[np.uint8], tuple[Sample, ...]]:
            decoded = decode_all([sample.path for sample in samples], manifest.input, progress=advance)
            for index, reason in decoded.failures:
                report(f"left out {samples[index].path}: {reason}")
            if not decoded.kept:
                raise DatasetError(
                    "none of the images for calibration and checks can be read; give others with --calibration"
                )
            return decoded.images_nhwc_rgb_u8, tuple(samples[index] for index in decoded.kept)

        representative, kept_representative = decode(images.representative)
        check, kept_check = decode(images.check)
        golden, _ = decode(images.golden)
    np.save(work_dir / REPRESENTATIVE_FILE, representative)
    np.save(work_dir / CHECK_FILE, check)
    np.save(work_dir / GOLDEN_INPUT_FILE, golden)
    np.save(work_dir / TRUTH_FILE, np.array([manifest.labels.index(sample.label) for sample in kept_check], np.int64))
    split = Split.VALIDATION.value if all(s.split is Split.VALIDATION for s in kept_check) else "all"
    report(f"calibrating with {len(representative)} images, checking on {len(check)} ({split})")
    return ImageArrays(kept_representative, kept_check, split, images.seed)
