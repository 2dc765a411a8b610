"""Read a labelled set for training: decode it once into a cache, audit and split it.

Decoded and resized images are kept in a memory-mapped file. Its key is made of the file contents and the geometry, so
labels, names and splits may change. Epochs read it through the page cache: a set larger than memory streams from disk.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.cli_support import note
from edge_runtime.contract import InputSpec
from edge_runtime.errors import DatasetError, OutputError
from edge_runtime.model.bundle import file_sha256
from edge_runtime.platform.atomic import atomic_directory
from edge_runtime.platform.process import cache_folder, silence_native_stderr
from edge_runtime.preprocess import prepare
from edge_runtime.progress import progress_bar
from edge_runtime.text import csv_text
from edge_runtime.workstation.datasets.resolve import resolve
from edge_runtime.workstation.datasets.samples import Dataset, Sample, Split
from train.intake.audit import audit
from train.intake.facts import Facts, examine, facts_from_json, facts_to_json, in_parallel
from train.intake.findings import Finding, Kind, LeftOut
from train.intake.split import assign_splits
from train.recipe import Recipe, SplitSettings

_LAYOUT_VERSION = 1
_IMAGES_FILE = "images.npy"
_FACTS_FILE = "facts.json"
_MARKER = "COMPLETE"
_DEFAULT_LIMIT_GIB = 20.0
LEFT_OUT_FILE = "left_out.csv"
_LEFT_OUT_SHOWN = 5
_ABOUT_THE_WHOLE_SET = (Kind.ALIKE, Kind.UNBALANCED, Kind.FEW)


@dataclass(frozen=True)
class TrainingData:
    """Decoded images of all splits with their labels, ready for training.

    Attributes:
        name: Name of the data set.
        labels: Labels in the order of the model's outputs.
        samples: One sample per image, with SHA-256 and split.
        images_nhwc_rgb_u8: uint8 [contents, H, W, 3] RGB, mapped from the pixel cache; index a few rows at a time.
        image_rows: intp [len(samples)], row of each image in ``images_nhwc_rgb_u8``.
        targets: int64 [len(samples)], indices into ``labels``.
        left_out: Files that are not used.
        findings: Findings of the audit.
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
        """Return the indices into ``samples`` of one split."""
        return np.flatnonzero([sample.split is split for sample in self.samples])

    def images(self, rows: Sequence[int] | NDArray[np.intp]) -> NDArray[np.uint8]:
        """Copy images by their indices into ``samples``: uint8 [n, H, W, 3] RGB."""
        return np.asarray(self.images_nhwc_rgb_u8[self.image_rows[rows]])


def read_images(source: str, sha256: str | None, recipe: Recipe) -> TrainingData:
    """Resolve a data source, load its images, and print a summary to standard error.

    Raises:
        DataError: The source is unsuitable for training.
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


def load_images(
    dataset: Dataset, spec: InputSpec, shares: SplitSettings, seed: int, progress: Callable[[int], None] | None = None
) -> TrainingData:
    """Hash, decode, audit and split a data set.

    Args:
        dataset: Listed files and labels.
        spec: Geometry of the model input.
        shares: Sizes of the held-out splits where the source has none.
        seed: Seed of the split.
        progress: Function called with 1 after each decoded image, not for cached ones.

    Raises:
        DatasetError: A class has too few readable images.
        OutputError: The pixel cache cannot be written.
    """
    results = in_parallel(_hash, dataset.samples)
    hashed = [result for result in results if isinstance(result, Sample)]
    unreadable = [result for result in results if isinstance(result, LeftOut)]
    pixels = load_pixels(hashed, spec, progress)
    result = audit(dataset, hashed, pixels.facts, unreadable)
    _check_classes(dataset.labels, result.kept, result.left_out)
    samples = assign_splits(result.kept, dataset.labels, shares, seed, result.groups)
    return TrainingData(
        dataset.name,
        dataset.labels,
        samples,
        pixels.images_nhwc_rgb_u8,
        np.array([pixels.row_of[sample.sha256] for sample in samples], np.intp),
        np.array([dataset.labels.index(sample.label) for sample in samples], np.int64),
        result.left_out,
        result.findings,
    )


def _hash(sample: Sample) -> Sample | LeftOut:
    """Compute the SHA-256 of a file; leave it out if it is unreadable or differs from the index."""
    try:
        sha256 = file_sha256(sample.path)
    except OSError as error:
        return LeftOut(sample, f"cannot be read ({error.strerror})")
    if sample.sha256 not in ("", sha256):
        return LeftOut(sample, "differs from the index: its SHA-256 is another")
    return replace(sample, sha256=sha256)


def _check_classes(labels: Sequence[str], usable: Sequence[Sample], left_out: Sequence[LeftOut]) -> None:
    present = {sample.label for sample in usable}
    for label in labels:
        if label not in present:
            files = [item for item in left_out if item.sample.label == label]
            first = f"{files[0].sample.path} {files[0].reason}" if files else "it holds none"
            raise DatasetError(f"class {label!r}: none of its {len(files)} images can be used; the first: {first}")


def write_left_out_csv(path: Path, left_out: Sequence[LeftOut]) -> None:
    """Write absolute path, label and reason of every file that was left out."""
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["file", "label", "reason"])
        writer.writerows(
            [item.sample.path.resolve(), csv_text(item.sample.label), csv_text(item.reason)] for item in left_out
        )


@dataclass(frozen=True)
class Pixels:
    """Prepared images, one per distinct file content.

    Attributes:
        images_nhwc_rgb_u8: uint8 [contents, H, W, 3] RGB, mapped from the cache; rows of unreadable files are 0.
        row_of: Row of each image by SHA-256.
        facts: Facts of each file by SHA-256.
    """

    images_nhwc_rgb_u8: NDArray[np.uint8]
    row_of: Mapping[str, int]
    facts: Mapping[str, Facts]


def load_pixels(samples: Sequence[Sample], spec: InputSpec, progress: Callable[[int], None] | None = None) -> Pixels:
    """Load prepared images from the cache, or decode and cache them.

    Args:
        samples: Images with ``sha256``; identical files share a row.
        spec: Geometry of the model input.
        progress: Function called with 1 after each decoded image.

    Raises:
        OutputError: The cache cannot be written, for example on a full disk.
    """
    paths = {sample.sha256: sample.path for sample in samples}
    hashes = sorted(paths)
    folder = cache_folder() / "pixels" / _key(hashes, spec)
    row_of = {sha256: row for row, sha256 in enumerate(hashes)}
    try:
        if (folder / _MARKER).is_file():
            with contextlib.suppress(OSError, ValueError):
                return _open(folder, row_of)
        _build(folder, [paths[sha256] for sha256 in hashes], hashes, spec, progress)
        _evict(folder)
        return _open(folder, row_of)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise OutputError(
            f"{folder}: prepared images cannot be cached ({reason}); "
            "free disk space, or set EDGEKIT_CACHE to another folder"
        ) from error


def _key(hashes: Sequence[str], spec: InputSpec) -> str:
    geometry = json.dumps(asdict(spec), sort_keys=True)
    text = "\n".join([str(_LAYOUT_VERSION), cv2.__version__, geometry, *hashes])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _open(folder: Path, row_of: Mapping[str, int]) -> Pixels:
    (folder / _MARKER).touch()  # its time is that of the last use
    images: NDArray[np.uint8] = np.lib.format.open_memmap(folder / _IMAGES_FILE, mode="r")
    facts = {entry.sha256: entry for entry in facts_from_json((folder / _FACTS_FILE).read_text(encoding="utf-8"))}
    if set(facts) != set(row_of) or len(images) != max(1, len(row_of)):
        raise ValueError("the contents of the cache do not match its name")
    return Pixels(images, row_of, facts)


def _build(
    folder: Path, paths: Sequence[Path], hashes: Sequence[str], spec: InputSpec, progress: Callable[[int], None] | None
) -> None:
    try:
        # Replace a damaged cache of the same name.
        with atomic_directory(folder, marker=_MARKER, overwrite=(folder / _MARKER).is_file()) as temporary:
            images = _allocate(temporary / _IMAGES_FILE, (max(1, len(paths)), *spec.shape_hwc))
            facts = _decode(paths, hashes, spec, images, progress)
            images.flush()
            (temporary / _FACTS_FILE).write_text(facts_to_json(facts), encoding="utf-8")
            (temporary / _MARKER).touch()
    except (OutputError, OSError) as error:
        is_taken = isinstance(error, OutputError) or error.errno in (errno.EEXIST, errno.ENOTEMPTY)
        # Another process may have finished the same cache in the meantime.
        if not is_taken or not (folder / _MARKER).is_file():
            raise


def _allocate(path: Path, shape: tuple[int, ...]) -> np.memmap[tuple[int, ...], np.dtype[np.uint8]]:
    images = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    with path.open("rb+") as file:
        # Reserve the space: writing to the map on a full disk would end the process with SIGBUS.
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return images


def _decode(
    paths: Sequence[Path],
    hashes: Sequence[str],
    spec: InputSpec,
    images: NDArray[np.uint8],
    progress: Callable[[int], None] | None,
) -> list[Facts]:
    def decode(row: int) -> Facts:
        facts, image = examine(paths[row])
        if facts.sha256 != hashes[row]:
            return Facts.unusable(hashes[row], "was changed while it was read")
        if image is not None:
            images[row] = prepare(image, spec)
        return facts

    return in_parallel(decode, range(len(paths)), progress)


def _evict(newest: Path) -> None:
    """Remove the least recently used caches beyond ``$EDGEKIT_CACHE_GIB`` GiB (default 20), except the newest."""
    try:
        limit = float(os.environ.get("EDGEKIT_CACHE_GIB", _DEFAULT_LIMIT_GIB)) * 2**30
    except ValueError:
        limit = _DEFAULT_LIMIT_GIB * 2**30
    folders = [folder for folder in newest.parent.iterdir() if (folder / _MARKER).is_file() and folder != newest]
    folders.sort(key=lambda folder: (folder / _MARKER).stat().st_mtime, reverse=True)
    total = (newest / _IMAGES_FILE).stat().st_size
    for folder in folders:
        total += (folder / _IMAGES_FILE).stat().st_size
        if total > limit:
            shutil.rmtree(folder, ignore_errors=True)
