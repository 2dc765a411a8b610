"""Read a CSV that lists labelled pictures: a cleaned index, the ``split.csv`` of a run, or MLPerf Tiny's labels."""

from __future__ import annotations

import stat
from pathlib import Path

from edge_runtime.datasets.classes import make_dataset
from edge_runtime.datasets.raw_index import LABELS_CSV, is_index_csv, read_index_csv
from edge_runtime.datasets.samples import SPLIT_FILE, Dataset, read_split_csv
from edge_runtime.errors import DatasetError


def read_index(path: Path) -> Dataset:
    """List the labelled pictures of a CSV in the form of ``split.csv`` or of ``y_labels.csv``.

    Args:
        path: Columns file, sha256, label and split, of which sha256 and split may be empty; or file and label alone.
            Relative files lie beside the CSV. Or, without a header, file, number of classes and class index
            (`edge_runtime.datasets.raw_index`). A line that is there twice counts once. A file that is missing stays
            listed, and whatever reads it says so.

    Raises:
        DatasetError: Not such a CSV, labels that cannot be used, something listed that is not a file, or none of the
            files exists.
    """
    listed = read_index_csv(path) if is_index_csv(path) else read_split_csv(path, needs_split=False)
    samples = tuple(dict.fromkeys(listed))
    existing = 0
    for sample in samples:
        try:
            mode = sample.path.stat().st_mode
        except (OSError, ValueError):
            continue
        if not stat.S_ISREG(mode):
            # Opening a pipe or a device could wait for ever.
            raise DatasetError(f"{path}: lists {str(sample.path)!r}, which is not a file; remove that line")
        existing += 1
    if samples and not existing:
        raise DatasetError(
            f"{path}: none of its {len(samples)} pictures is here (such as {str(samples[0].path)!r}); "
            "relative paths are looked for beside the CSV"
        )
    name = path.resolve().parent.name if path.name in (SPLIT_FILE, LABELS_CSV) else path.stem
    return make_dataset(name, str(path), samples, classes_are="different labels")
