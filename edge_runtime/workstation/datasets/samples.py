"""Labelled images as data: samples, splits, lists of images as CSV, and the checks that every source shares.

Lists are a cleaned index, a run's ``split.csv``, or MLPerf Tiny's ``y_labels.csv``, which lists raw images as
``file,number of classes,class index`` without a header. The class indices, as text, are the labels of such a set;
`map_index_labels` replaces them by the model's labels.
"""

from __future__ import annotations

import csv
import enum
import functools
import hashlib
import io
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edge_runtime.contract import check_class_names, normalize_label
from edge_runtime.errors import DatasetError, shorten
from edge_runtime.strict import open_regular
from edge_runtime.text import csv_plain, csv_text

SPLIT_FILE = "split.csv"
LABELS_CSV = "y_labels.csv"
MAX_IMAGES = 1_000_000
MAX_CSV_BYTES = 512 << 20
_COLUMNS = ["file", "sha256", "label", "split"]
_SHORT_COLUMNS = ["file", "label"]
_INDEX_LINE = re.compile(r"[^,\r\n]+,[0-9]{1,6},[0-9]{1,6}")
_INDEX = re.compile(r"0|[1-9][0-9]{0,5}")
_MAX_LINE_BYTES = 8192
_SHA256 = re.compile("[0-9a-f]{64}")


class Split(str, enum.Enum):
    """Part of a set."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


@dataclass(frozen=True)
class Sample:
    """One labelled image.

    Attributes:
        path: Path of the image file.
        label: Class of the image.
        split: Part of the set, or None if the source has no parts.
        sha256: SHA-256 of the file in lower-case hex, or empty if not computed.
    """

    path: Path
    label: str
    split: Split | None = None
    sha256: str = ""


@dataclass(frozen=True)
class Dataset:
    """Labelled set of images.

    Attributes:
        name: Short name for reports.
        labels: Classes in sorted order, which is the order of the model's outputs.
        samples: Images sorted by split, label and file name.
        ignored: Files without the suffix of an image.
    """

    name: str
    labels: tuple[str, ...]
    samples: tuple[Sample, ...]
    ignored: tuple[Path, ...] = ()

    def of_split(self, split: Split) -> tuple[Sample, ...]:
        """Return the images of one part."""
        return tuple(sample for sample in self.samples if sample.split is split)


def write_split_csv(path: Path, samples: Iterable[Sample]) -> None:
    """Write file (absolute), sha256, label and split of each image as CSV; unknown values stay empty."""
    text = io.StringIO()
    plain = csv.writer(text, lineterminator="\n")
    # Python before 3.13 writes a carriage return without quotes and cannot read it back.
    quoted = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    plain.writerow(_COLUMNS)
    for sample in samples:
        file = str(sample.path.resolve())
        row = [file, sample.sha256, csv_text(sample.label), sample.split.value if sample.split else ""]
        (quoted if "\r" in file + sample.label else plain).writerow(row)
    path.write_bytes(text.getvalue().encode(errors="surrogateescape"))


def read_split_csv(path: Path, *, needs_split: bool = True) -> tuple[Sample, ...]:
    """Read a CSV in the form of `write_split_csv`.

    Args:
        path: CSV file; relative paths of images start from its folder.
        needs_split: True to require a split for every image; otherwise the columns may be file and label alone.

    Raises:
        DatasetError: The file is missing, too large, or has other columns or values.
    """

    def parse(rows: Iterator[list[str]]) -> Iterator[Sample]:
        is_short = _is_short(path, next(rows, None), needs_split)
        for row in filter(None, rows):
            whole = [row[0], "", csv_text(row[1]), ""] if is_short and len(row) == len(_SHORT_COLUMNS) else row
            yield _parse_row(whole, path.parent, needs_split)

    return _read_csv(path, parse, "a list of images as CSV")


def _read_csv(path: Path, parse: Callable[[Iterator[list[str]]], Iterable[Sample]], what: str) -> tuple[Sample, ...]:
    """Read the images that a CSV lists; a ValueError of ``parse`` becomes a DatasetError with the line."""
    samples: list[Sample] = []
    try:
        if path.stat().st_size > MAX_CSV_BYTES:
            raise DatasetError(f"{path}: expected at most {MAX_CSV_BYTES >> 20} MiB of CSV, got more")
        if not path.is_file():
            raise DatasetError(f"{path}: expected a CSV file, got a folder or a device")
        # utf-8-sig: spreadsheets put a byte order mark before the first column.
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            reader = csv.reader(file)
            try:
                for sample in parse(reader):
                    if len(samples) == MAX_IMAGES:
                        raise DatasetError(f"{path}: expected at most {MAX_IMAGES:,} images, got more")
                    samples.append(sample)
            except (csv.Error, ValueError) as error:
                raise DatasetError(f"{path}: line {reader.line_num}: {error}") from error
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror}); expected {what}") from error
    return tuple(samples)


def _is_short(path: Path, columns: Sequence[str] | None, needs_split: bool) -> bool:
    """Tell whether a list has only the columns file and label."""
    if columns == _COLUMNS:
        return False
    if columns == _SHORT_COLUMNS and not needs_split:
        return True
    or_short = "" if needs_split else f", or {' and '.join(_SHORT_COLUMNS)} alone"
    raise DatasetError(f"{path}: expected the columns {', '.join(_COLUMNS)}{or_short}, separated by commas")


def _parse_row(row: Sequence[str], folder: Path, needs_split: bool) -> Sample:
    """Parse one line of a split file; raises ValueError with the reason."""
    splits = [split.value for split in Split] + ([] if needs_split else [""])
    if len(row) != len(_COLUMNS):
        raise ValueError(f"expected {', '.join(_COLUMNS)}, got {shorten(repr(list(row)))}")
    file, sha256, label, split = row
    if not file or "\0" in file:
        raise ValueError(f"expected the path of an image, got {shorten(repr(file))}")
    if sha256 and not _SHA256.fullmatch(sha256):
        raise ValueError(f"expected a SHA-256 of 64 lower-case hex digits or nothing, got {shorten(repr(sha256))}")
    if not label:
        raise ValueError("expected a label, got nothing")
    if split not in splits:
        raise ValueError(
            f"expected a split ({', '.join(name or 'empty' for name in splits)}), got {shorten(repr(split))}"
        )
    return Sample(folder / file, normalize_label(csv_plain(label)), Split(split) if split else None, sha256)


def fingerprint(samples: Sequence[Sample]) -> str:
    """Compute a SHA-256 over the sorted (hash, label, split) of all images, independent of file names and order."""
    lines = sorted(f"{s.sha256} {s.label} {s.split.value if s.split else ''}" for s in samples)
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()


def count_per_split(samples: Iterable[Sample]) -> dict[str, int]:
    """Count the images per split name."""
    counts: dict[str, int] = {}
    for sample in samples:
        name = sample.split.value if sample.split else "all"
        counts[name] = counts.get(name, 0) + 1
    return counts


def make_dataset(
    name: str, source: str, samples: Sequence[Sample], *, ignored: Iterable[Path] = (), classes_are: str
) -> Dataset:
    """Check the classes and make the set.

    Args:
        name: Short name for reports.
        source: Name of the source in messages.
        samples: Labelled images in any order.
        ignored: Files without the suffix of an image.
        classes_are: Description of classes in such a source, in the plural, such as ``"folders of images"``.

    Raises:
        DatasetError: There are fewer than two classes, a label is invalid, or a part lacks a class.
    """
    labels = tuple(sorted({sample.label for sample in samples}))
    if len(labels) < 2:
        found = f"only {labels[0]!r}" if labels else "none"
        raise DatasetError(f"{source}: expected at least two {classes_are}, got {found}")
    try:
        check_class_names(labels)
    except ValueError as error:
        raise DatasetError(f"{source}: {error}; rename the class") from error
    for split in Split:
        present = {sample.label for sample in samples if sample.split is split}
        if present and present != set(labels):
            missing = ", ".join(sorted(set(labels) - present))
            raise DatasetError(f"{source}: {split.value} lacks the class {missing}; every part needs every class")
    ordered = sorted(samples, key=lambda one: (one.split.value if one.split else "", one.label, one.path))
    return Dataset(name, labels, tuple(ordered), tuple(sorted(ignored)))


def map_index_labels(samples: Sequence[Sample], labels: Sequence[str]) -> tuple[Sample, ...]:
    """Replace class indices as labels by the labels of a model.

    A set is labelled by index if every label is an integer from 0 to below the model's number of labels, without a sign
    or leading zeros, and not all of them are labels of the model. Any other set is returned unchanged, so that the
    caller can report unknown labels.

    Args:
        samples: Images of one set.
        labels: Labels of the model in output order.
    """
    found = {sample.label for sample in samples}
    by_index = all(_INDEX.fullmatch(label) and int(label) < len(labels) for label in found)
    if not by_index or found <= set(labels):
        return tuple(samples)
    return tuple(replace(sample, label=labels[int(sample.label)]) for sample in samples)


def read_index(path: Path) -> Dataset:
    """List the labelled images of a CSV in the form of ``split.csv`` or of ``y_labels.csv``.

    Args:
        path: CSV with the columns file, sha256, label and split, of which sha256 and split may be empty, or file and
            label alone; or, without a header, file, number of classes and class index. Relative paths start from its
            folder. Repeated lines count once. A missing file stays listed; its reader reports it.

    Raises:
        DatasetError: The CSV has another form, a label is invalid, an entry is not a file, or no file exists.
    """
    if _is_index_csv(path):
        parse_row = functools.partial(_parse_index_row, folder=path.parent)
        listed = _read_csv(path, lambda rows: map(parse_row, filter(None, rows)), "a list of raw images")
    else:
        listed = read_split_csv(path, needs_split=False)
    samples = tuple(dict.fromkeys(listed))
    existing = 0
    for sample in samples:
        try:
            mode = sample.path.stat().st_mode
        except (OSError, ValueError):
            continue
        if not stat.S_ISREG(mode):
            # Opening a pipe or a device could block.
            raise DatasetError(f"{path}: lists {str(sample.path)!r}, which is not a file; remove that line")
        existing += 1
    if samples and not existing:
        raise DatasetError(
            f"{path}: none of its {len(samples)} images is here (such as {str(samples[0].path)!r}); "
            "relative paths are looked for beside the CSV"
        )
    name = path.resolve().parent.name if path.name in (SPLIT_FILE, LABELS_CSV) else path.stem
    return make_dataset(name, str(path), samples, classes_are="different labels")


def _is_index_csv(path: Path) -> bool:
    """Tell whether a CSV has the form of ``y_labels.csv``, by its first line."""
    try:
        with open_regular(path) as file:
            first = file.readline(_MAX_LINE_BYTES)
    except OSError:
        return False
    return _INDEX_LINE.fullmatch(first.decode(errors="replace").rstrip("\r\n")) is not None


def _parse_index_row(row: Sequence[str], folder: Path) -> Sample:
    """Parse one line; raises ValueError with the reason."""
    if len(row) != 3 or not row[0] or "\0" in row[0] or not _INDEX.fullmatch(row[1]) or not _INDEX.fullmatch(row[2]):
        raise ValueError(f"expected file,number of classes,class index, got {shorten(repr(list(row)))}")
    if int(row[2]) >= int(row[1]):
        raise ValueError(f"expected a class index below {row[1]}, got {row[2]}")
    return Sample(folder / row[0], row[2])
