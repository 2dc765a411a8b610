"""Make a labelled set of what was listed, after the checks that every kind of source shares."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from edge_runtime.datasets.samples import Dataset, Sample, Split
from edge_runtime.errors import DatasetError
from edge_runtime.labels import check_class_names


def make_dataset(
    name: str, source: str, samples: Sequence[Sample], *, ignored: Iterable[Path] = (), classes_are: str
) -> Dataset:
    """Check the classes and put the set together.

    Args:
        name: Short name for reports.
        source: As messages call it.
        samples: Labelled pictures in any order.
        ignored: Files that are no pictures by their suffix.
        classes_are: What makes a class in such a source, in the plural, such as ``"folders of pictures"``.

    Raises:
        DatasetError: Fewer than two classes, a label that cannot be used, or a part that lacks a class.
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
    return Dataset(name, labels, tuple(sorted(samples, key=_order)), tuple(sorted(ignored)))


def _order(sample: Sample) -> tuple[str, str, Path]:
    return (sample.split.value if sample.split else "", sample.label, sample.path)
