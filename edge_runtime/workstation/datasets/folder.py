"""Read a folder of class folders, or of ``train/ validation/ test/`` with class folders inside."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from edge_runtime.contract import find_clash, normalize_label
from edge_runtime.errors import DatasetError
from edge_runtime.image_files import is_image_or_raw_name
from edge_runtime.workstation.datasets.samples import Dataset, Sample, Split, make_dataset

_SPLIT_NAMES = {
    "train": Split.TRAIN,
    "training": Split.TRAIN,
    "validation": Split.VALIDATION,
    "valid": Split.VALIDATION,
    "val": Split.VALIDATION,
    "test": Split.TEST,
    "testing": Split.TEST,
}
MAC_LEFTOVERS = "__MACOSX"


def read_folder(root: Path, shown: str | None = None) -> Dataset:
    """List the labelled images of a folder.

    Args:
        root: Folder ``root/<class>/**`` or ``root/{train,validation,test}/<class>/**``. Hidden names are skipped. The
            label is the name of the class folder in Unicode normal form NFC.
        shown: Name of the folder in messages; None for its path.

    Returns:
        The set; ``Sample.split`` is set in the second layout only.

    Raises:
        DatasetError: The folder is missing, has fewer than two classes or a class without images, or a folder name is
            no valid label.
    """
    if not root.is_dir():
        raise DatasetError(f"{shown or root}: no such folder; expected a folder with one folder of images per class")
    listing = _Listing(root, shown or str(root))
    children, files = listing.children(root)
    listing.ignored.extend(files)
    names = {child.name.lower() for child in children}
    if names <= set(_SPLIT_NAMES) and any(_SPLIT_NAMES[name] is Split.TRAIN for name in names):
        for child in children:
            listing.read_classes(child, _SPLIT_NAMES[child.name.lower()])
    else:
        listing.read_classes(root, None)
    return make_dataset(
        root.resolve().name,
        listing.shown,
        listing.samples,
        ignored=listing.ignored,
        classes_are="folders of images, one per class",
    )


def find_set_folder(folder: Path) -> Path:
    """Descend through folders that only wrap the set, as archives often have.

    A folder is a wrapper if exactly one of its folders holds images, in folders of their own; other files (a readme, a
    script) do not matter. A training part alone is no wrapper.
    """
    while True:
        inner = [child for child in _children(folder)[0] if _holds_images(child)]
        if len(inner) != 1 or _SPLIT_NAMES.get(inner[0].name.lower()) is Split.TRAIN:
            return folder
        if not any(_holds_images(child) for child in _children(inner[0])[0]):
            return folder
        folder = inner[0]


@dataclass
class _Listing:
    root: Path
    shown: str
    samples: list[Sample] = field(default_factory=list)
    ignored: list[Path] = field(default_factory=list)

    def children(self, folder: Path) -> tuple[list[Path], list[Path]]:
        try:
            return _children(folder)
        except OSError as error:
            raise self._unreadable(folder, error) from error

    def read_classes(self, folder: Path, split: Split | None) -> None:
        class_folders, _ = self.children(folder)
        clash = find_clash(child.name for child in class_folders)
        if clash:
            raise DatasetError(
                f"{self._show(folder)}: the folders {clash[0]!a} and {clash[1]!a} look alike, differing in "
                "case or encoding only; merge them or rename one"
            )
        for class_folder in class_folders:
            label = normalize_label(class_folder.name)
            before = len(self.samples)
            try:
                for path in _walk(class_folder):
                    if is_image_or_raw_name(path):
                        self.samples.append(Sample(path, label, split))
                    else:
                        self.ignored.append(path)
            except OSError as error:
                raise self._unreadable(class_folder, error) from error
            if len(self.samples) == before:
                raise DatasetError(f"{self._show(class_folder)}: holds no images; add some or remove the folder")

    def _show(self, folder: Path) -> str:
        inside = "" if folder == self.root else folder.relative_to(self.root).as_posix()
        # A newline or a byte that is not UTF-8 in a name must not break the message.
        return f"{self.shown}/{inside if inside.isprintable() else ascii(inside)}" if inside else self.shown

    def _unreadable(self, folder: Path, error: OSError) -> DatasetError:
        return DatasetError(f"{self._show(folder)}: cannot be read ({error.strerror})")


def _children(folder: Path) -> tuple[list[Path], list[Path]]:
    """List the visible folders and visible files of a folder, sorted."""
    folders, files = [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") or entry.name == MAC_LEFTOVERS:
                continue
            if entry.is_dir():
                folders.append(folder / entry.name)
            elif entry.is_file():
                files.append(folder / entry.name)
    return sorted(folders), sorted(files)


def _walk(folder: Path) -> Iterator[Path]:
    """Yield the visible files below a folder without following links to folders, which could loop.

    Raises:
        OSError: A folder cannot be read; skipping it would silently leave out images.
    """

    def fail(error: OSError) -> None:
        raise error

    for current, folders, files in os.walk(folder, onerror=fail):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != MAC_LEFTOVERS)
        for name in sorted(files):
            path = Path(current, name)
            if not name.startswith(".") and path.is_file():
                yield path


def _holds_images(folder: Path) -> bool:
    return any(is_image_or_raw_name(path) for path in _walk(folder))
