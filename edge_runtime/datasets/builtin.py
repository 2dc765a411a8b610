"""Built-in sets, drawn once as PNG files into a cache folder so that everything downstream sees plain files."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from edge_runtime.atomic import atomic_directory
from edge_runtime.datasets.folder import read_folder
from edge_runtime.datasets.samples import Dataset
from edge_runtime.errors import OutputError

BUILTIN_NAMES = ("smileys",)
SMILEYS_COUNT = 4000
_SEED = 2026
_MARKER = "COMPLETE"


def read_builtin(name: str, count: int = SMILEYS_COUNT, progress: Callable[[int], None] | None = None) -> Dataset:
    """Give a built-in set, drawing it on first use.

    Args:
        name: One of `BUILTIN_NAMES`.
        count: How many pictures.
        progress: Called with the number of pictures drawn since the last call.

    Raises:
        OutputError: The cache folder cannot be written.
    """
    import cv2

    from edge_runtime.datasets.smileys import LABELS, VERSION, iter_smileys

    folder = cache_folder() / f"{name}-v{VERSION}-n{count}"
    if not (folder / _MARKER).is_file():
        try:
            with atomic_directory(folder, marker=_MARKER) as temporary:
                for label in LABELS:
                    (temporary / label).mkdir()
                for label, stem, image_hwc_rgb_u8 in iter_smileys(count, _SEED):
                    path = temporary / label / f"{stem}.png"
                    if not cv2.imwrite(str(path), cv2.cvtColor(image_hwc_rgb_u8, cv2.COLOR_RGB2BGR)):
                        raise OutputError(f"{path}: cannot be written")
                    if progress:
                        progress(1)
                (temporary / _MARKER).touch()
        except (OSError, OutputError) as error:
            # Another process may have finished the same set meanwhile: then its folder is there and ours is not needed.
            if not (folder / _MARKER).is_file():
                raise OutputError(f"{folder}: the built-in set cannot be written ({error})") from error
    return replace(read_folder(folder), name=name, ignored=())


def cache_folder() -> Path:
    """``$EDGEKIT_CACHE``, else ``edgekit`` under the user's cache folder (XDG)."""
    if "EDGEKIT_CACHE" in os.environ:
        return Path(os.environ["EDGEKIT_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgekit"
