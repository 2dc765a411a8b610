"""Read a CSV of labelled images: a cleaned index, a run's ``split.csv``, or MLPerf Tiny's ``y_labels.csv``.

``y_labels.csv`` lists raw images as ``file,number of classes,class index``, without a header. The class indices, as
text, are the labels of such a set; `map_index_labels` replaces them by the model's labels.
"""

from __future__ import annotations

import functools
import re
import stat
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edge_runtime.errors import DatasetError, shorten
from edge_runtime.workstation.datasets.samples import (
    SPLIT_FILE,
    Dataset,
    Sample,
    make_dataset,
    read_csv,
    read_split_csv,
)

LABELS_CSV = "y_labels.csv"
_INDEX_LINE = re.compile(r"[^,\r\n]+,[0-9]{1,6},[0-9]{1,6}")
_INDEX = re.compile(r"0|[1-9][0-9]{0,5}")
_MAX_LINE_BYTES = 8192


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
        listed = read_csv(path, lambda rows: map(parse_row, filter(None, rows)), "a list of raw images")
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
        with path.open("rb") as file:
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
