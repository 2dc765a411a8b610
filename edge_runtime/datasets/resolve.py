"""Turn SRC of the command line into a labelled set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edge_runtime.datasets.builtin import BUILTIN_NAMES, read_builtin
from edge_runtime.datasets.folder import read_folder
from edge_runtime.datasets.samples import Dataset
from edge_runtime.errors import DatasetError


def resolve(source: str, progress: Callable[[int], None] | None = None) -> Dataset:
    """Read a labelled set.

    Args:
        source: A folder of class folders (also inside ``train/ validation/ test/``), or the name of a built-in set.
        progress: Called while a built-in set is drawn, with the number of pictures since the last call.

    Raises:
        DatasetError: No such folder or set, or one that cannot be used.
    """
    path = Path(source)
    if source in BUILTIN_NAMES and not path.is_dir():
        return read_builtin(source, progress=progress)
    if source.startswith(("http://", "https://")) or source.lower().endswith(".zip"):
        raise DatasetError(f"{source}: archives are not read yet; unpack it and give the folder")
    if not path.is_dir():
        names = ", ".join(BUILTIN_NAMES)
        raise DatasetError(f"{source}: no such folder; expected a folder of class folders or a built-in set ({names})")
    return read_folder(path)
