"""Which files are taken for pictures by their names."""

from __future__ import annotations

from pathlib import Path

from edge_runtime.raw_pictures import is_raw_name

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif"}
)


def is_image_name(path: Path) -> bool:
    """Whether a file is taken for a picture by its suffix."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def is_picture_name(path: Path) -> bool:
    """Whether a file is taken for a picture or a raw picture by its suffix."""
    return is_image_name(path) or is_raw_name(path)
