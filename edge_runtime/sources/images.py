"""Picture files from paths and folders."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from edge_runtime.errors import DataError

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif"}
)


def is_image_name(path: Path) -> bool:
    """Whether a file is taken for a picture by its suffix."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def find_images(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield picture files lazily: a file as it is, whatever its name; a folder's pictures, sorted, recursively.

    Raises:
        DataError: A path does not exist, or a folder holds no pictures.
    """
    for path in paths:
        if path.is_dir():
            found = False
            for child in _walk(path):
                found = True
                yield child
            if not found:
                raise DataError(f"{path}: holds no pictures ({', '.join(sorted(IMAGE_SUFFIXES))})")
        elif path.exists():
            yield path
        else:
            raise DataError(f"{path}: no such file or folder")


def _walk(folder: Path) -> Iterator[Path]:
    for child in sorted(folder.iterdir()):
        if child.name.startswith("."):
            continue
        if child.is_dir() and not child.is_symlink():
            yield from _walk(child)
        elif is_image_name(child) and child.is_file():
            yield child
