"""Labelled pictures as data: what a set holds, and the ``split.csv`` that a run directory keeps of it."""

from __future__ import annotations

import csv
import enum
import hashlib
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.errors import DatasetError

SPLIT_FILE = "split.csv"
_COLUMNS = ["file", "sha256", "label", "split"]


class Split(str, enum.Enum):
    """Which part of a set a picture belongs to."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


@dataclass(frozen=True)
class Sample:
    """One labelled picture.

    Attributes:
        path: The picture file.
        label: Its class.
        split: Its part, or None where the source does not say.
        sha256: Of the file, or empty where it was not computed.
    """

    path: Path
    label: str
    split: Split | None = None
    sha256: str = ""


@dataclass(frozen=True)
class Dataset:
    """A labelled set.

    Attributes:
        name: Short name for reports.
        labels: Classes in sorted order, which is the order of the model's outputs.
        samples: Sorted by split, label and file name.
        ignored: Files that are no pictures by their suffix.
    """

    name: str
    labels: tuple[str, ...]
    samples: tuple[Sample, ...]
    ignored: tuple[Path, ...] = ()

    def of_split(self, split: Split) -> tuple[Sample, ...]:
        """The pictures of one part."""
        return tuple(sample for sample in self.samples if sample.split is split)


def write_split_csv(path: Path, samples: Iterable[Sample]) -> None:
    """Write file (absolute), sha256, label and split of every picture that was used."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for sample in samples:
        writer.writerow(
            [sample.path.resolve(), sample.sha256, sample.label, sample.split.value if sample.split else ""]
        )
    path.write_text(text.getvalue(), encoding="utf-8", errors="surrogateescape")


def read_split_csv(path: Path) -> tuple[Sample, ...]:
    """Read what `write_split_csv` wrote.

    Raises:
        DatasetError: The file is missing or has other columns or values.
    """
    try:
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            rows = list(csv.reader(file))
    except (OSError, csv.Error) as error:
        raise DatasetError(f"{path}: cannot be read ({error}); expected the split of a run directory") from error
    if not rows or rows[0] != _COLUMNS:
        raise DatasetError(f"{path}: expected the columns {', '.join(_COLUMNS)}")
    samples = []
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(_COLUMNS) or row[3] not in [split.value for split in Split]:
            raise DatasetError(f"{path}: line {number}: expected file, sha256, label and a split, got {row!r}")
        samples.append(Sample(Path(row[0]), row[2], Split(row[3]), row[1]))
    return tuple(samples)


def fingerprint(samples: Sequence[Sample]) -> str:
    """SHA-256 over the sorted (hash, label, split) of all pictures; file names and order do not matter."""
    lines = sorted(f"{s.sha256} {s.label} {s.split.value if s.split else ''}" for s in samples)
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()


def count_per_split(samples: Iterable[Sample]) -> dict[str, int]:
    """Number of pictures per split name."""
    counts: dict[str, int] = {}
    for sample in samples:
        name = sample.split.value if sample.split else "all"
        counts[name] = counts.get(name, 0) + 1
    return counts
