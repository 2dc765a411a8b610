"""List a folder of class folders, or one of ``train/ validation/ test/`` with class folders inside."""

from __future__ import annotations

from pathlib import Path

from edge_runtime.datasets.samples import Dataset, Sample, Split
from edge_runtime.errors import DatasetError
from edge_runtime.sources.images import is_image_name

_SPLIT_NAMES = {
    "train": Split.TRAIN,
    "validation": Split.VALIDATION,
    "val": Split.VALIDATION,
    "test": Split.TEST,
}


def read_folder(root: Path) -> Dataset:
    """List the labelled pictures of a folder.

    Args:
        root: ``root/<class>/**`` or ``root/{train,validation,test}/<class>/**``. Hidden names are skipped.

    Returns:
        The set; ``Sample.split`` is set in the second layout only.

    Raises:
        DatasetError: No such folder, fewer than two classes, or a class without pictures.
    """
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder; expected a folder with one folder of pictures per class")
    children = _visible_folders(root)
    names = {child.name.lower() for child in children}
    ignored: list[Path] = [path for path in root.iterdir() if path.is_file() and not path.name.startswith(".")]
    if "train" in names and names <= set(_SPLIT_NAMES):
        samples = [
            sample for child in children for sample in _read_classes(child, _SPLIT_NAMES[child.name.lower()], ignored)
        ]
    else:
        samples = _read_classes(root, None, ignored)
    labels = tuple(sorted({sample.label for sample in samples}))
    _check_classes(root, labels, samples)
    return Dataset(root.resolve().name, labels, tuple(samples), tuple(sorted(ignored)))


def _read_classes(folder: Path, split: Split | None, ignored: list[Path]) -> list[Sample]:
    samples: list[Sample] = []
    for class_folder in _visible_folders(folder):
        before = len(samples)
        for path in sorted(class_folder.rglob("*")):
            if path.name.startswith(".") or not path.is_file():
                continue
            if is_image_name(path):
                samples.append(Sample(path, class_folder.name, split))
            else:
                ignored.append(path)
        if len(samples) == before:
            raise DatasetError(f"{class_folder}: holds no pictures; add some or remove the folder")
    return samples


def _check_classes(root: Path, labels: tuple[str, ...], samples: list[Sample]) -> None:
    if len(labels) < 2:
        found = f"only {labels[0]!r}" if labels else "none"
        raise DatasetError(f"{root}: expected at least two folders of pictures, one per class, got {found}")
    for split in Split:
        present = {sample.label for sample in samples if sample.split is split}
        if present and present != set(labels):
            missing = ", ".join(sorted(set(labels) - present))
            raise DatasetError(f"{root}: {split.value} lacks the class {missing}; every part needs every class")


def _visible_folders(root: Path) -> list[Path]:
    return sorted(child for child in root.iterdir() if child.is_dir() and not child.name.startswith("."))
