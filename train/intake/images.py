"""Read a labelled set once for training: hash, decode, audit, split and report omissions."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_runtime.cli_support import note, progress_bar
from edge_runtime.contract import InputSpec
from edge_runtime.errors import DatasetError
from edge_runtime.model.bundle import file_sha256
from edge_runtime.platform.board import core_count
from edge_runtime.platform.process import silence_native_stderr
from edge_runtime.workstation.datasets.resolve import resolve
from edge_runtime.workstation.datasets.samples import Dataset, Sample, Split
from train.intake.audit import Finding, audit
from train.intake.findings import Kind
from train.intake.pixel_cache import load_pixels
from train.intake.split import LeftOut, assign_splits
from train.recipe import Recipe
from train.settings import SplitSettings

LEFT_OUT_FILE = "left_out.csv"


@dataclass(frozen=True)
class TrainingImages:
    """A whole set, ready for training.

    Attributes:
        name: Of the set.
        labels: In the order of the model's outputs.
        samples: One per image, each with hash and split.
        images_nhwc_rgb_u8: uint8 [contents, H, W, 3] RGB, mapped from the pixel cache: index it a few rows at a time.
        image_rows: intp [len(samples)], row of each image in ``images_nhwc_rgb_u8``.
        targets: int64 [len(samples)], index into ``labels``.
        left_out: Files that are not used.
        findings: What the audit said.
    """

    name: str
    labels: tuple[str, ...]
    samples: tuple[Sample, ...]
    images_nhwc_rgb_u8: NDArray[np.uint8]
    image_rows: NDArray[np.intp]
    targets: NDArray[np.int64]
    left_out: tuple[LeftOut, ...]
    findings: tuple[Finding, ...]

    def rows(self, split: Split) -> NDArray[np.intp]:
        """Indices into ``samples`` of the images of one part."""
        return np.flatnonzero([sample.split is split for sample in self.samples])

    def images(self, rows: Sequence[int] | NDArray[np.intp]) -> NDArray[np.uint8]:
        """Copies of some images, by their indices into ``samples``: uint8 [n, H, W, 3] RGB."""
        return np.asarray(self.images_nhwc_rgb_u8[self.image_rows[rows]])


def load_images(
    dataset: Dataset, spec: InputSpec, shares: SplitSettings, seed: int, progress: Callable[[int], None] | None = None
) -> TrainingImages:
    """Hash, decode, audit and split a set.

    Args:
        dataset: Files and labels.
        spec: Geometry of the model's input.
        shares: Sizes of the held-out parts where the source does not say.
        seed: Of the split.
        progress: Called with 1 after each image that is decoded; those in the cache are not.

    Raises:
        DatasetError: A class has too few readable images.
        OutputError: The pixel cache cannot be written.
    """
    hashed, unreadable = hash_all(dataset.samples)
    pixels = load_pixels(hashed, spec, progress)
    result = audit(dataset, hashed, pixels.facts, unreadable)
    _check_classes(dataset.labels, result.kept, result.left_out)
    samples = assign_splits(result.kept, dataset.labels, shares, seed, result.groups)
    return TrainingImages(
        dataset.name,
        dataset.labels,
        samples,
        pixels.images_nhwc_rgb_u8,
        np.array([pixels.row_of[sample.sha256] for sample in samples], np.intp),
        np.array([dataset.labels.index(sample.label) for sample in samples], np.int64),
        result.left_out,
        result.findings,
    )


def hash_all(samples: Sequence[Sample]) -> tuple[list[Sample], list[LeftOut]]:
    """Give every image the SHA-256 of its file, in parallel.

    Left out are files that cannot be read, and those whose index recorded another hash.
    """
    with ThreadPoolExecutor(core_count()) as pool:
        results = list(pool.map(_hash, samples))
    hashed = [result for result in results if isinstance(result, Sample)]
    return hashed, [result for result in results if isinstance(result, LeftOut)]


def write_left_out_csv(path: Path, left_out: Sequence[LeftOut]) -> None:
    """Write file (absolute), label and reason of every image that was not used."""
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["file", "label", "reason"])
        writer.writerows([item.sample.path.resolve(), item.sample.label, item.reason] for item in left_out)


def _hash(sample: Sample) -> Sample | LeftOut:
    try:
        sha256 = file_sha256(sample.path)
    except OSError as error:
        return LeftOut(sample, f"cannot be read ({error.strerror})")
    if sample.sha256 not in ("", sha256):
        return LeftOut(sample, "is not the file that the index was written for: its SHA-256 is another")
    return replace(sample, sha256=sha256)


def _check_classes(labels: Sequence[str], usable: Sequence[Sample], left_out: Sequence[LeftOut]) -> None:
    present = {sample.label for sample in usable}
    for label in labels:
        if label not in present:
            files = [item for item in left_out if item.sample.label == label]
            first = f"{files[0].sample.path} {files[0].reason}" if files else "it holds none"
            raise DatasetError(f"class {label!r}: none of its {len(files)} images can be used; the first: {first}")


_LEFT_OUT_SHOWN = 5
_ABOUT_THE_WHOLE_SET = (Kind.ALIKE, Kind.UNBALANCED, Kind.FEW)


def read_images(source: str, sha256: str | None, recipe: Recipe) -> TrainingImages:
    """Resolve SRC, decode, audit and split it.

    Raises:
        DataError: It cannot be trained on.
        OutputError: A cache cannot be written.
    """
    dataset = resolve(source, sha256=sha256, progress=progress_bar)
    with silence_native_stderr(), progress_bar("reading images", len(dataset.samples)) as progress:
        data = load_images(dataset, recipe.input.spec(), recipe.split, recipe.seed, progress)
    counts = ", ".join(f"{len(data.rows(split))} {split.value}" for split in Split)
    note(f"{data.name}: {len(data.samples)} images in {len(data.labels)} classes ({counts})")
    for finding in data.findings:
        if finding.kind in _ABOUT_THE_WHOLE_SET:
            note(f"{data.name}: {finding.message}")
    if data.left_out:
        note(f"{len(data.left_out)} files left out (all are in left_out.csv; edge-train data shows them):")
    for item in data.left_out[:_LEFT_OUT_SHOWN]:
        note(f"  {item.sample.path}: {item.reason}")
    return data
