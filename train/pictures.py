"""Read a labelled set once: hash, split and decode its files into one array, and name what is left out."""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_runtime.contract import InputSpec
from edge_runtime.cores import core_count
from edge_runtime.datasets.decode import decode_all
from edge_runtime.datasets.samples import Dataset, Sample, Split
from edge_runtime.errors import DatasetError, UsageError
from train.recipe import SplitSettings
from train.split import LeftOut, assign_splits, drop_conflicts

LEFT_OUT_FILE = "left_out.csv"
_HASH_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Pictures:
    """A whole set, ready for training.

    Attributes:
        name: Of the set.
        labels: In the order of the model's outputs.
        samples: One per picture, each with hash and split.
        images_nhwc_rgb_u8: uint8 [len(samples), H, W, 3], RGB.
        targets: int64 [len(samples)], index into ``labels``.
        left_out: Files that are not used.
    """

    name: str
    labels: tuple[str, ...]
    samples: tuple[Sample, ...]
    images_nhwc_rgb_u8: NDArray[np.uint8]
    targets: NDArray[np.int64]
    left_out: tuple[LeftOut, ...]

    def rows(self, split: Split) -> NDArray[np.intp]:
        """Indices of the pictures of one part."""
        return np.flatnonzero([sample.split is split for sample in self.samples])


def load_pictures(
    dataset: Dataset, spec: InputSpec, shares: SplitSettings, seed: int, progress: Callable[[int], None] | None = None
) -> Pictures:
    """Hash, decode and split a set.

    Args:
        dataset: Files and labels.
        spec: Geometry of the model's input.
        shares: Sizes of the held-out parts where the source does not say.
        seed: Of the split.
        progress: Called with 1 after each picture.

    Raises:
        DatasetError: A class has too few readable pictures.
        UsageError: The pictures would not fit into memory at this size.
    """
    _check_memory(len(dataset.samples), spec)
    hashed, unreadable = _hash_all(dataset.samples)
    kept, conflicts = drop_conflicts(hashed)
    decoded = decode_all([sample.path for sample in kept], spec, progress=progress)
    damaged = [LeftOut(kept[index], reason) for index, reason in decoded.failures]
    left_out = (*unreadable, *conflicts, *damaged)
    usable = [kept[index] for index in decoded.kept]
    _check_classes(dataset.labels, usable, left_out)
    samples = assign_splits(usable, dataset.labels, shares, seed)
    targets = np.array([dataset.labels.index(sample.label) for sample in samples], np.int64)
    return Pictures(dataset.name, dataset.labels, samples, decoded.images_nhwc_rgb_u8, targets, left_out)


def write_left_out_csv(path: Path, left_out: Sequence[LeftOut]) -> None:
    """Write file (absolute), label and reason of every picture that was not used."""
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["file", "label", "reason"])
        writer.writerows([item.sample.path.resolve(), item.sample.label, item.reason] for item in left_out)


def _hash_all(samples: Sequence[Sample]) -> tuple[list[Sample], list[LeftOut]]:
    with ThreadPoolExecutor(core_count()) as pool:
        results = list(pool.map(_hash, samples))
    hashed = [replace(sample, sha256=digest) for sample, digest, _ in results if digest]
    return hashed, [LeftOut(sample, reason) for sample, digest, reason in results if not digest]


def _hash(sample: Sample) -> tuple[Sample, str, str]:
    digest = hashlib.sha256()
    try:
        with sample.path.open("rb") as file:
            while block := file.read(_HASH_BLOCK_BYTES):
                digest.update(block)
    except OSError as error:
        return sample, "", f"cannot be read ({error.strerror})"
    return sample, digest.hexdigest(), ""


def _check_memory(count: int, spec: InputSpec) -> None:
    """Refuse before decoding what would otherwise end in the kernel's out-of-memory killer."""
    needed = count * spec.height * spec.width * 3
    available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > available // 2:
        raise UsageError(
            f"{count} pictures of {spec.width} x {spec.height} pixels need {needed / 2**30:.1f} GiB, and half of this "
            f"machine's memory is {available / 2**31:.1f} GiB; choose a smaller --image-size or fewer pictures"
        )


def _check_classes(labels: Sequence[str], usable: Sequence[Sample], left_out: Sequence[LeftOut]) -> None:
    present = {sample.label for sample in usable}
    for label in labels:
        if label not in present:
            files = [item for item in left_out if item.sample.label == label]
            first = f"{files[0].sample.path} {files[0].reason}" if files else "it holds none"
            raise DatasetError(f"class {label!r}: none of its {len(files)} pictures can be used; the first: {first}")
