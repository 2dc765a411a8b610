"""Which pictures calibrate a conversion, and which check it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from convert.source.model_source import ModelSource
from edge_runtime.cli_support import progress_bar
from edge_runtime.datasets.raw_index import map_index_labels
from edge_runtime.datasets.resolve import resolve
from edge_runtime.datasets.samples import SPLIT_FILE, Sample, Split, read_split_csv
from edge_runtime.errors import DatasetError, UsageError
from edge_runtime.modelfile import file_sha256

_GOLDEN_COUNT = 8
_SHOWN_LABELS = 5


@dataclass(frozen=True)
class Pictures:
    """Labelled pictures of one conversion; the labels are the model's.

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


def choose_pictures(
    source: ModelSource, run: Path, calibration: str | None, calibration_images: int, seed: int | None
) -> Pictures:
    """Choose pictures: calibration from the training split only, checks from the validation split.

    Of a set without splits all pictures check, and calibration is drawn from them; of a set that lacks one of the two
    splits, all take its place.

    Args:
        source: The model.
        run: What was given on the command line; a run directory knows its own pictures.
        calibration: SRC that takes their place, or None.
        calibration_images: How many pictures to calibrate with.
        seed: For drawing, or None for the run's own, or 0.

    Raises:
        UsageError: Neither a run directory nor ``calibration``.
        DatasetError: The pictures are gone or none, or their labels are not the model's.
    """
    found = resolve(calibration, progress=progress_bar).samples if calibration else _own_samples(run)
    labels = source.manifest.labels
    samples = map_index_labels(found, labels)
    if not samples:
        raise DatasetError(f"{calibration or run}: expected labelled pictures to calibrate and check with, got none")
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
    return Pictures(
        representative=stratified(train, calibration_images, seed),
        check=tuple(check),
        golden=stratified(check, _GOLDEN_COUNT, seed),
        seed=seed,
    )


def stratified(samples: Sequence[Sample], count: int, seed: int) -> tuple[Sample, ...]:
    """Choose ``count`` pictures, the classes taking turns, each class in a seeded order; fewer if there are fewer."""
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
    """SHA-256 over the sorted (hash of the file, label) of pictures; names and order do not matter.

    Raises:
        DatasetError: A picture cannot be read.
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
            f"{run}: has no pictures of its own; say --calibration SRC: a folder of class folders, a zip or URL of "
            "one, or a CSV"
        )
    samples = read_split_csv(run / SPLIT_FILE)
    missing = next((sample.path for sample in samples if not sample.path.is_file()), None)
    if missing:
        raise DatasetError(
            f"{run}: its pictures are not here (such as {missing}); "
            "give labelled pictures with --calibration: a folder of class folders, a zip or URL of one, or a CSV"
        )
    return samples
