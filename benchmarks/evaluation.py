"""Evaluation set: choose images, check their labels, and prepare them as one array on disk."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import numpy as np

from benchmarks.plan import BenchConfig
from benchmarks.records import DataRecord, Unreadable
from edge_runtime.contract import InputSpec, look_alike_key
from edge_runtime.errors import DatasetError, OutputError, UsageError, shorten
from edge_runtime.model.bundle import file_sha256
from edge_runtime.progress import progress_bar
from edge_runtime.workstation.datasets.decode import decode_all
from edge_runtime.workstation.datasets.resolve import resolve
from edge_runtime.workstation.datasets.samples import (
    SPLIT_FILE,
    Dataset,
    Sample,
    Split,
    fingerprint,
    map_index_labels,
    read_split_csv,
)

CHUNK_BYTES = 32 << 20
"""Prepared images in memory at a time: on a board, a parent with the whole set leaves no memory for the children."""

_PREFERENCE = (Split.TEST, Split.VALIDATION)
_SHOWN = 5
_SHOWN_CHARACTERS = 60


@dataclass(frozen=True)
class Chosen:
    """Labelled images before they are opened; see `DataRecord` for source, part and ignored files."""

    source: str
    part: str
    samples: tuple[Sample, ...]
    ignored: int


@dataclass(frozen=True)
class EvaluationSet:
    """Images that every subject is measured on.

    Attributes:
        images: ``.npy`` file, uint8 [N, H, W, 3] RGB.
        paths_file: Text file with one absolute path per line, in the same order, UTF-8 with ``surrogateescape``.
        unlisted: Images that are missing there, because their name or folder holds a line break.
        samples: The N images, in the same order.
        truth: Label index of each image.
        record: Record for the report.
    """

    images: Path
    paths_file: Path
    unlisted: tuple[Path, ...]
    samples: tuple[Sample, ...]
    truth: tuple[int, ...]
    record: DataRecord


def choose_images(config: BenchConfig) -> Chosen:
    """Find the images that the command line selects.

    Raises:
        UsageError: Neither ``--data`` nor ``--keras`` is given, or the source has no such part.
        DatasetError: The source cannot be used, or holds no images.
    """
    if config.data is not None:
        dataset = resolve(config.data, progress=progress_bar)
    elif config.keras is not None:
        dataset = Dataset(str(config.keras), (), read_split_csv(config.keras / SPLIT_FILE))
    else:
        raise UsageError(
            "no images to measure on: give --data SRC (a folder with one folder per class, a .zip or URL of one, "
            "a .csv that lists images, or smileys), "
            "or --keras RUN to take the test split of that run"
        )
    source = config.data or f"{SPLIT_FILE} of {config.keras}"
    settings = config.settings
    part, samples = choose_part(source, dataset.samples, Split(settings.split) if settings.split else None)
    if not samples:
        raise DatasetError(f"{source}: lists no images; give labelled images with --data SRC")
    return Chosen(source, part, limit_samples(samples, settings.limit, settings.seed), len(dataset.ignored))


def choose_part(source: str, samples: Sequence[Sample], wanted: Split | None) -> tuple[str, tuple[Sample, ...]]:
    """Take the wanted part, else test, else validation; everything if the source has no parts.

    Raises:
        UsageError: The source has no such part.
    """
    present = {sample.split for sample in samples if sample.split is not None}
    if not present:
        if wanted is not None:
            raise UsageError(f"--split {wanted.value}: {source} is not divided into train, validation and test")
        return "all", tuple(samples)
    for part in [wanted] if wanted else _PREFERENCE:
        if part in present:
            return part.value, tuple(sample for sample in samples if sample.split is part)
    found = ", ".join(sorted(split.value for split in present))
    missing = wanted.value if wanted else "test or validation"
    raise UsageError(f"{source}: holds no {missing} images, only {found}; choose with --split")


def limit_samples(samples: tuple[Sample, ...], limit: int | None, seed: int) -> tuple[Sample, ...]:
    """Draw at most ``limit`` images with a fixed seed, in their old order.

    The classes keep their proportions, and each keeps an image if the limit allows. Places are assigned by Webster's
    method: the k-th image of a class with n images comes at ``(k - 1/2) / n``. Source: M. L. Balinski
    and H. P. Young, "Fair representation" (Yale 1982).
    """
    if limit is None or limit >= len(samples):
        return samples
    order = list(range(len(samples)))
    random.Random(seed).shuffle(order)  # noqa: S311 - a sample, not a secret
    sizes, taken = Counter(sample.label for sample in samples), Counter[str]()
    places: list[tuple[float, int, int]] = []
    for position, index in enumerate(order):
        label = samples[index].label
        taken[label] += 1
        is_first = taken[label] == 1 and limit >= len(sizes)
        places.append((0.0 if is_first else (taken[label] - 0.5) / sizes[label], position, index))
    drawn = sorted(index for _, _, index in sorted(places)[:limit])
    return tuple(samples[index] for index in drawn)


def prepare_images(
    chosen: Chosen, labels: Sequence[str], spec: InputSpec, trained_on: frozenset[str] | None, folder: Path
) -> EvaluationSet:
    """Decode the images into ``folder``; unreadable ones are recorded, and class indices become the model's labels.

    Args:
        chosen: Labelled images to decode.
        labels: Labels of the model, in output order.
        spec: Geometry of the model's input.
        trained_on: SHA-256 of the images that the model was trained on, or None if unknown.
        folder: Folder where the array and the list of files are written.

    Raises:
        DatasetError: A label is unknown, or no image is readable.
        OutputError: The folder cannot be written.
    """
    named = map_index_labels(chosen.samples, labels)
    check_labels_known(chosen.source, named, labels)
    samples, unreadable = _hash_images(named)
    images = folder / "images.npy"
    with progress_bar("decoding images", len(samples)) as progress:
        indices, failures = write_images([sample.path for sample in samples], spec, images, progress=progress)
    unreadable += [Unreadable(str(samples[index].path), reason) for index, reason in failures]
    kept = tuple(samples[index] for index in indices)
    if not kept:
        reason = f" ({unreadable[0].file}: {unreadable[0].reason})" if unreadable else ""
        raise DatasetError(
            f"{chosen.source}: not one of {len(chosen.samples)} images can be read{reason}; give others with --data"
        )
    counts = Counter(sample.label for sample in kept)
    record = DataRecord(
        source=chosen.source,
        part=chosen.part,
        images=len(kept),
        images_per_label={label: counts[label] for label in labels},
        sha256=fingerprint(kept),
        unreadable=tuple(unreadable),
        ignored_files=chosen.ignored,
        trained_on=None if trained_on is None else sum(sample.sha256 in trained_on for sample in kept),
    )
    index_of = {label: index for index, label in enumerate(labels)}
    truth = tuple(index_of[sample.label] for sample in kept)
    paths_file = folder / "images.txt"
    return EvaluationSet(images, paths_file, _write_paths(paths_file, kept), kept, truth, record)


def hashes_trained_on(run: Path) -> frozenset[str]:
    """Read the SHA-256 of the images in the training part of a run."""
    return frozenset(sample.sha256 for sample in read_split_csv(run / SPLIT_FILE) if sample.split is Split.TRAIN)


def _hash_images(samples: Sequence[Sample]) -> tuple[list[Sample], list[Unreadable]]:
    """Hash every image; one that is missing or differs from the run's record is unreadable."""
    hashed, unreadable = [], []
    for sample in samples:
        try:
            sha256 = file_sha256(sample.path)
        except OSError as error:
            unreadable.append(Unreadable(str(sample.path), f"cannot be read ({error.strerror})"))
            continue
        if sample.sha256 not in ("", sha256):
            unreadable.append(Unreadable(str(sample.path), "was altered since the run recorded it (SHA-256 differs)"))
            continue
        hashed.append(replace(sample, sha256=sha256))
    return hashed, unreadable


def _write_paths(file: Path, samples: Sequence[Sample]) -> tuple[Path, ...]:
    """List the images, one per line, and return those that do not fit on a line."""
    # Not resolved: the target of a link may lack the suffix that marks a raw image.
    paths = [sample.path.absolute() for sample in samples]
    # str.splitlines knows more line breaks than a file has; a reader of the list may use either.
    is_line = [len(str(path).splitlines()) == 1 for path in paths]
    lines = [f"{path}\n" for path, fits in zip(paths, is_line, strict=True) if fits]
    file.write_text("".join(lines), encoding="utf-8", errors="surrogateescape", newline="\n")
    return tuple(path for path, fits in zip(paths, is_line, strict=True) if not fits)


def check_labels_known(source: str, samples: Sequence[Sample], labels: Sequence[str]) -> None:
    """Check that the model knows the label of every image.

    An unknown label is no mistake of the model, and leaving its images out silently would change the accuracy: the
    DatasetError names the labels, counts the images, and suggests what may be meant.
    """
    known = set(labels)
    unknown = Counter(sample.label for sample in samples if sample.label not in known)
    if not unknown:
        return
    counted = [f"{_shown(label)} ({count})" for label, count in sorted(unknown.items())]
    raise DatasetError(
        f"{source}: {sum(unknown.values())} of {len(samples)} images have a label that the model does not know: "
        f"{_few(counted)}; it knows {_few([_shown(label) for label in labels])}; {_remedy(unknown, labels)}"
    )


def _remedy(unknown: Counter[str], labels: Sequence[str]) -> str:
    by_key = {_key(label): label for label in labels}
    alike = [(label, by_key[_key(label)]) for label in sorted(unknown) if _key(label) in by_key]
    if alike:
        pairs = [f"{_shown(label)} to {_shown(other)}" for label, other in alike]
        return f"rename {_few(pairs)}"
    if all(label.isascii() and label.isdigit() for label in unknown):
        return f"class indices go from 0 to {len(labels) - 1}, without leading zeros"
    return "rename these classes to labels of the model, or leave them out of the data"


def _key(label: str) -> str:
    """Make a key that labels share if they differ only in case, encoding, spaces, underscores or hyphens."""
    return " ".join(look_alike_key(label).replace("_", " ").replace("-", " ").split())


def _shown(label: str) -> str:
    return shorten(ascii(label) if not label.isprintable() else repr(label), _SHOWN_CHARACTERS)


def _few(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return ", ".join(texts[:_SHOWN]) + more


def write_images(
    paths: Sequence[Path], spec: InputSpec, file: Path, *, progress: Callable[[int], None] | None = None
) -> tuple[tuple[int, ...], tuple[tuple[int, str], ...]]:
    """Decode image files by the contract into the ``.npy`` file ``file``: uint8 [kept, H, W, 3] RGB.

    Returns:
        Indices in ``paths`` of the kept images, and (index, reason) of the others.

    Raises:
        OutputError: The file cannot be written, for example because the disk is full.
    """

    def write_header(stream: IO[bytes], count: int) -> None:
        header = {"descr": "|u1", "fortran_order": False, "shape": (count, *spec.shape_hwc)}
        np.lib.format.write_array_header_1_0(stream, header)

    kept: list[int] = []
    failures: list[tuple[int, str]] = []
    step = max(1, CHUNK_BYTES // (spec.height * spec.width * 3))
    try:
        with file.open("wb") as stream:
            write_header(stream, len(paths))
            for first in range(0, len(paths), step):
                decoded = decode_all(paths[first : first + step], spec, progress=progress)
                stream.write(decoded.images_nhwc_rgb_u8.data)
                kept += [first + index for index in decoded.kept]
                failures += [(first + index, reason) for index, reason in decoded.failures]
            # NumPy pads a header for any number of images, so this one is as long as the first.
            stream.seek(0)
            write_header(stream, len(kept))
    except OSError as error:
        size_mib = len(paths) * spec.height * spec.width * 3 / (1 << 20)
        raise OutputError(
            f"{file}: cannot be written ({error.strerror}); {len(paths)} prepared images take {size_mib:.0f} MiB: "
            "give a smaller --limit, or name a folder with more room in TMPDIR"
        ) from error
    return tuple(kept), tuple(failures)
