"""Choose the calibration, check and golden images of a conversion and decode them once into arrays on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convert.children import CHECK_FILE, GOLDEN_INPUT_FILE, REPRESENTATIVE_FILE, TRUTH_FILE
from convert.source.model_source import ModelSource
from edge_runtime.contract import InputSpec, Manifest
from edge_runtime.errors import DatasetError, UsageError
from edge_runtime.model.bundle import file_sha256
from edge_runtime.progress import progress_bar
from edge_runtime.workstation.datasets.decode import decode_all
from edge_runtime.workstation.datasets.index import map_index_labels
from edge_runtime.workstation.datasets.resolve import resolve
from edge_runtime.workstation.datasets.samples import SPLIT_FILE, Sample, Split, read_split_csv

_GOLDEN_COUNT = 8
_SHOWN_LABELS = 5


@dataclass(frozen=True)
class ConversionImages:
    """Labelled images of one conversion; the labels are the model's.

    Attributes:
        representative: Of the training split, for calibration, stratified by class.
        check: Of the validation split.
        golden: A few of ``check``, stratified by class, that travel with the bundle.
        seed: What they were drawn with.
    """

    representative: tuple[Sample, ...]
    check: tuple[Sample, ...]
    golden: tuple[Sample, ...]
    seed: int


def choose_images(
    source: ModelSource, run: Path, calibration: str | None, calibration_images: int, seed: int | None
) -> ConversionImages:
    """Choose images: calibration from the training split only, checks from the validation split.

    Of a set without splits all images check, and calibration is drawn from them; of a set that lacks one of the two
    splits, all take its place.

    Args:
        source: The model.
        run: What was given on the command line; a run directory knows its own images.
        calibration: SRC that takes their place, or None.
        calibration_images: How many images to calibrate with.
        seed: For drawing, or None for the run's own, or 0.

    Raises:
        UsageError: Neither a run directory nor ``calibration``.
        DatasetError: The images are gone or none, or their labels are not the model's.
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
    """Choose ``count`` images, the classes taking turns, each class in a seeded order; fewer if there are fewer."""
    rng = np.random.default_rng(seed)
    queues = []
    for label in sorted({sample.label for sample in samples}):
        members = [sample for sample in samples if sample.label == label]
        queues.append([members[index] for index in rng.permutation(len(members))])
    chosen: list[Sample] = []
    depth = 0
    while len(chosen) < min(count, len(samples)):
        chosen.extend(queue[depth] for queue in queues if depth < len(queue))
        depth += 1
    return tuple(chosen[:count])


def list_sha256(samples: Iterable[Sample]) -> str:
    """SHA-256 over the sorted (hash of the file, label) of images; names and order do not matter.

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
            f"{run}: has no images of its own; say --calibration SRC: a folder of class folders, a zip or URL of "
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
    """What could be decoded; the images themselves lie in the work folder.

    Attributes:
        representative: The images that calibrate.
        check: The images that check, in the order of the array.
        split: Name of their split.
    """

    representative: tuple[Sample, ...]
    check: tuple[Sample, ...]
    split: str


def write_arrays(
    manifest: Manifest, images: ConversionImages, work_dir: Path, report: Callable[[str], None]
) -> ImageArrays:
    """Write the images for calibration and checks, and the truth of the latter, into the work folder.

    Raises:
        DatasetError: None of them can be read.
    """
    total = len(images.representative) + len(images.check) + len(images.golden)
    with progress_bar("decoding", total) as advance:

        def decode(samples: Sequence[Sample]) -> tuple[NDArray[np.uint8], tuple[Sample, ...]]:
            return _decode(samples, manifest.input, report, advance)

        representative, kept_representative = decode(images.representative)
        check, kept_check = decode(images.check)
        golden, _ = decode(images.golden)
    np.save(work_dir / REPRESENTATIVE_FILE, representative)
    np.save(work_dir / CHECK_FILE, check)
    np.save(work_dir / GOLDEN_INPUT_FILE, golden)
    np.save(work_dir / TRUTH_FILE, np.array([manifest.labels.index(sample.label) for sample in kept_check], np.int64))
    split = Split.VALIDATION.value if all(s.split is Split.VALIDATION for s in kept_check) else "all"
    report(f"calibrating with {len(representative)} images, checking on {len(check)} ({split})")
    return ImageArrays(kept_representative, kept_check, split)


def _decode(
    samples: Sequence[Sample], spec: InputSpec, report: Callable[[str], None], advance: Callable[[int], None]
) -> tuple[NDArray[np.uint8], tuple[Sample, ...]]:
    decoded = decode_all([sample.path for sample in samples], spec, progress=advance)
    for index, reason in decoded.failures:
        report(f"left out {samples[index].path}: {reason}")
    if not decoded.kept:
        raise DatasetError("none of the images for calibration and checks can be read; give others with --calibration")
    return decoded.images_nhwc_rgb_u8, tuple(samples[index] for index in decoded.kept)
