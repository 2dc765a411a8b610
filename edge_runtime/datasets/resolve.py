"""Turn SRC of the command line into a labelled set."""

from __future__ import annotations

import re
from pathlib import Path

from edge_runtime.datasets.builtin import BUILTIN_NAMES, read_builtin
from edge_runtime.datasets.folder import read_folder
from edge_runtime.datasets.raw_index import LABELS_CSV
from edge_runtime.datasets.samples import Dataset
from edge_runtime.errors import DatasetError, UsageError
from edge_runtime.labels import shorten
from edge_runtime.progress import ProgressBars, silent

_SHA256 = re.compile("[0-9a-f]{64}")
_SCHEME = re.compile("[A-Za-z][A-Za-z0-9+.-]*://")


def resolve(source: str, *, sha256: str | None = None, progress: ProgressBars = silent) -> Dataset:
    """Read a labelled set.

    Args:
        source: A folder of class folders (also inside ``train/ validation/ test/``), a ``.zip`` of one, the http or
            https URL of such a zip, a ``.csv`` in the form of ``split.csv``, the name of a built-in set, or a folder
            of raw pictures with MLPerf Tiny's ``y_labels.csv``.
        sha256: What the zip must hash to; only for a zip or a URL.
        progress: Shows drawing, downloading and unpacking.

    Raises:
        UsageError: ``sha256`` is not a SHA-256, or the source is not one file.
        DatasetError: No such source, or one that cannot be used.
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
        from edge_runtime.datasets.index import read_index

        return read_index(path / LABELS_CSV if path.is_dir() else path)
    names = ", ".join(BUILTIN_NAMES)
    kind = "file" if path.suffix.lower() in (".zip", ".csv") else "folder"
    raise DatasetError(
        f"{shorten(source)}: no such {kind}; expected a folder of class folders, a .zip of one or its URL, a .csv that "
        f"lists pictures, or a built-in set ({names})"
    )


def _checked_sha256(source: str, sha256: str | None) -> str | None:
    if sha256 is None:
        return None
    if not _SHA256.fullmatch(sha256.strip().lower()):
        raise UsageError(f"--sha256: expected 64 hex digits, got {shorten(repr(sha256))} (for {shorten(source)})")
    return sha256.strip().lower()


def _read_zip(path: Path, sha256: str | None, progress: ProgressBars) -> Dataset:
    from edge_runtime.datasets.archive import read_unpacked, unpack

    shown = str(path)
    return read_unpacked(unpack(path, shown, sha256=sha256, progress=progress), path.stem, shown)


def _read_url(source: str, sha256: str | None, progress: ProgressBars) -> Dataset:
    from edge_runtime.datasets.archive import read_unpacked, unpack
    from edge_runtime.datasets.download import fetch, forget
    from edge_runtime.datasets.http_fetch import parse_address

    address = parse_address(source)
    file = fetch(address, sha256=sha256, progress=progress)
    try:
        unpacked = unpack(file, address.shown, sha256=sha256, progress=progress)
    except DatasetError:
        # A verdict about these bytes: only other bytes can help, so the next try must fetch them.
        forget(address)
        raise
    return read_unpacked(unpacked, address.name, address.shown)
