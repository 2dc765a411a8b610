"""Built-in sets, drawn once as PNG files into a cache folder so that everything downstream sees plain files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edge_runtime.atomic import atomic_directory
from edge_runtime.cache import cache_folder
from edge_runtime.datasets.folder import read_folder
from edge_runtime.datasets.samples import Dataset
from edge_runtime.errors import OutputError
from edge_runtime.progress import ProgressBars, silent

if TYPE_CHECKING:
    from edge_runtime.preprocess import ImageU8

BUILTIN_NAMES = ("smileys",)
SMILEYS_COUNT = 4000
_SEED = 2026
_MARKER = "COMPLETE"


def read_builtin(name: str, count: int = SMILEYS_COUNT, progress: ProgressBars = silent) -> Dataset:
    """Give a built-in set, drawing it on first use.

    Args:
        name: One of `BUILTIN_NAMES`.
        count: How many pictures.
        progress: Shows the pictures while they are drawn, on first use only.

    Raises:
        OutputError: The cache folder cannot be written.
    """
    from edge_runtime.datasets.smileys import VERSION

    folder = cache_folder() / f"{name}-v{VERSION}-n{count}"
    if not (folder / _MARKER).is_file():
        try:
            with (
                atomic_directory(folder, marker=_MARKER) as temporary,
                progress(f"drawing {name}", count) as advance,
            ):
                for path, image_hwc_rgb_u8 in _named_pictures(count, _SEED):
                    _write_png(temporary / path, image_hwc_rgb_u8)
                    advance(1)
                (temporary / _MARKER).touch()
        except (OSError, OutputError) as error:
            # Another process may have finished the same set meanwhile: then its folder is there and ours is not needed.
            if not (folder / _MARKER).is_file():
                raise OutputError(f"{folder}: the built-in set cannot be written ({error})") from error
    return replace(read_folder(folder), name=name, ignored=())


def draw_pictures(folder: Path, count: int, seed: int) -> None:
    """Write pictures of `smileys` side by side into one folder, such as ``happy_00003.png``; others stay.

    Args:
        folder: Made if it is missing.
        count: How many.
        seed: Another than the set's own gives pictures that no model has seen.

    Raises:
        OutputError: The folder cannot be written.
    """
    try:
        for path, image_hwc_rgb_u8 in _named_pictures(count, seed):
            _write_png(folder / path.name, image_hwc_rgb_u8)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror})") from error


def _named_pictures(count: int, seed: int) -> Iterator[tuple[Path, ImageU8]]:
    """``<label>/<stem>.png`` and the picture, uint8 [128, 128, 3] RGB."""
    from edge_runtime.datasets.smileys import iter_smileys

    for label, stem, image_hwc_rgb_u8 in iter_smileys(count, seed):
        yield Path(label, f"{stem}.png"), image_hwc_rgb_u8


def _write_png(path: Path, image_hwc_rgb_u8: ImageU8) -> None:
    import cv2

    path.parent.mkdir(parents=True, exist_ok=True)
    encoded = cv2.imencode(".png", cv2.cvtColor(image_hwc_rgb_u8, cv2.COLOR_RGB2BGR))[1]
    path.write_bytes(encoded.tobytes())
