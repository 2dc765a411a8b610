"""Turn SRC of the command line into a labelled dataset, drawing a built-in one into the cache on first use."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from edge_runtime.errors import DatasetError, OutputError, UsageError, shorten
from edge_runtime.platform.atomic import atomic_directory
from edge_runtime.platform.process import cache_folder
from edge_runtime.progress import ProgressBars, silent
from edge_runtime.workstation.datasets.folder import read_folder
from edge_runtime.workstation.datasets.samples import LABELS_CSV, Dataset, read_index

BUILTIN_NAMES = ("smileys",)
SMILEYS_COUNT = 4000
_SEED = 2026
_MARKER = "COMPLETE"


def read_builtin(name: str, count: int = SMILEYS_COUNT, progress: ProgressBars = silent) -> Dataset:
    """Read a built-in set, drawing it on first use.

    Args:
        name: Name from `BUILTIN_NAMES`.
        count: Number of images.
        progress: Progress bars for drawing, on first use only.

    Raises:
        OutputError: The cache folder cannot be written.
    """
    from edge_runtime.workstation.datasets.smileys import VERSION

    folder = cache_folder() / f"{name}-v{VERSION}-n{count}"
    if not (folder / _MARKER).is_file():
        try:
            with atomic_directory(folder, marker=_MARKER) as temporary, progress(f"drawing {name}", count) as advance:
                _write_images(temporary, "{label}/{stem}.png", count, _SEED, advance)
                (temporary / _MARKER).touch()
        except (OSError, OutputError) as error:
            # Another process may have finished the same set meanwhile.
            if not (folder / _MARKER).is_file():
                raise OutputError(f"{folder}: the built-in set cannot be written ({error})") from error
    return replace(read_folder(folder), name=name, ignored=())


def draw_images(folder: Path, count: int, seed: int) -> None:
    """Write images of `smileys` into one folder, such as ``happy_00003.png``; other files stay.

    Args:
        folder: Destination, created if missing.
        count: Number of images.
        seed: Random seed; a seed other than the set's gives images that no model was trained on.

    Raises:
        OutputError: The folder cannot be written.
    """
    try:
        _write_images(folder, "{stem}.png", count, seed)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror})") from error


def _write_images(folder: Path, name: str, count: int, seed: int, advance: Callable[[int], None] | None = None) -> None:
    """Draw images into files named by a pattern such as ``{label}/{stem}.png``."""
    import cv2

    from edge_runtime.workstation.datasets.smileys import iter_smileys

    for label, stem, image_hwc_rgb_u8 in iter_smileys(count, seed):
        path = folder / name.format(label=label, stem=stem)
        path.parent.mkdir(parents=True, exist_ok=True)
        encoded = cv2.imencode(".png", cv2.cvtColor(image_hwc_rgb_u8, cv2.COLOR_RGB2BGR))[1]
        path.write_bytes(encoded.tobytes())
        if advance:
            advance(1)


_SHA256 = re.compile("[0-9a-f]{64}")
_SCHEME = re.compile("[A-Za-z][A-Za-z0-9+.-]*://")


def resolve(source: str, *, sha256: str | None = None, progress: ProgressBars = silent) -> Dataset:
    """Read a labelled set.

    Args:
        source: A folder of class folders (also inside ``train/ validation/ test/``), a ``.zip`` of one, the http or
            https URL of such a zip, a ``.csv`` in the form of ``split.csv``, the name of a built-in set, or a folder
            of raw images with MLPerf Tiny's ``y_labels.csv``.
        sha256: Expected SHA-256 of the zip; only for a zip or a URL.
        progress: Progress bars for drawing, downloading and unpacking.

    Raises:
        UsageError: ``sha256`` is not a SHA-256, or the source is not a zip.
        DatasetError: The source is missing or unusable.
        OutputError: The cache cannot be written.
    """
    sha256 = _checked_sha256(source, sha256)
    if _SCHEME.match(source):
        return _read_url(source, sha256, progress)
    path = Path(source)
    if path.is_file() and path.suffix.lower() != ".csv":
        return _read_zip(path, sha256, progress)
    if sha256:
        raise UsageError(f"--sha256: expected a zip or a URL, got {source}")
    if path.is_dir() and not (path / LABELS_CSV).is_file():
        return read_folder(path)
    if source in BUILTIN_NAMES:
        return read_builtin(source, progress=progress)
    if path.is_file() or path.is_dir():
        return read_index(path / LABELS_CSV if path.is_dir() else path)
    names = ", ".join(BUILTIN_NAMES)
    kind = "file" if path.suffix.lower() in (".zip", ".csv") else "folder"
    raise DatasetError(
        f"{shorten(source)}: no such {kind}; expected a folder of class folders, a .zip of one or its URL, a .csv that "
        f"lists images, or a built-in set ({names})"
    )


def _checked_sha256(source: str, sha256: str | None) -> str | None:
    if sha256 is None:
        return None
    if not _SHA256.fullmatch(sha256.strip().lower()):
        raise UsageError(f"--sha256: expected 64 hex digits, got {shorten(repr(sha256))} (for {shorten(source)})")
    return sha256.strip().lower()


def _read_zip(path: Path, sha256: str | None, progress: ProgressBars) -> Dataset:
    from edge_runtime.workstation.datasets.archive import read_unpacked, unpack

    shown = str(path)
    return read_unpacked(unpack(path, shown, sha256=sha256, progress=progress), path.stem, shown)


def _read_url(source: str, sha256: str | None, progress: ProgressBars) -> Dataset:
    from edge_runtime.workstation.datasets.archive import read_unpacked, unpack
    from edge_runtime.workstation.datasets.download import fetch, forget, parse_address

    address = parse_address(source)
    file = fetch(address, sha256=sha256, progress=progress)
    try:
        unpacked = unpack(file, address.shown, sha256=sha256, progress=progress)
    except DatasetError:
        # These bytes are unusable, so the next attempt must download them again.
        forget(address)
        raise
    return read_unpacked(unpacked, address.name, address.shown)
