"""Unpack the images of an untrusted zip once, into the cache.

``archives/<sha256>/`` holds ``pictures/`` and the marker ``COMPLETE`` with their number: a folder from which files were
deleted is unpacked again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from edge_runtime.errors import DatasetError, OutputError, shorten
from edge_runtime.platform.atomic import atomic_directory, check_room
from edge_runtime.platform.process import cache_folder
from edge_runtime.platform.zips import ZIP_ERRORS, BoundedFile, ZipLimitError
from edge_runtime.progress import ProgressBars, silent
from edge_runtime.workstation.datasets.folder import find_set_folder, read_folder
from edge_runtime.workstation.datasets.samples import Dataset
from edge_runtime.workstation.datasets.zip_entries import Limits, Plan, plan

_MARKER = "COMPLETE"
_IMAGES = "pictures"
# Part of the marker: a change of the layout invalidates older folders.
_LAYOUT = 2
_BLOCK_BYTES = 1 << 20
_DEFAULT_LIMITS = Limits()


@dataclass(frozen=True)
class Unpacked:
    """Zip whose images lie in the cache.

    Attributes:
        folder: Top folder of the images.
        ignored: Names of the entries without the suffix of an image.
    """

    folder: Path
    ignored: tuple[str, ...]


def unpack(
    path: Path,
    shown: str,
    *,
    sha256: str | None = None,
    progress: ProgressBars = silent,
    limits: Limits = _DEFAULT_LIMITS,
) -> Unpacked:
    """Unpack the images of a zip into the cache, or find them there.

    Args:
        path: Path of the archive.
        shown: Name of the archive in messages.
        sha256: Expected SHA-256 in lower-case hex, or None.
        progress: Progress bars for bytes read and bytes unpacked.
        limits: Limits on the content.

    Raises:
        DatasetError: The archive is no zip, has another hash, is damaged, dangerous or too large, or holds no images;
            nothing is left behind.
        OutputError: The cache cannot be written; nothing is left behind.
    """
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(BoundedFile(path, limits.directory_bytes, limits.entries))
            digest = _hash(file, progress)
        except OSError as error:
            raise DatasetError(
                f"{shown}: cannot be read ({error.strerror}); expected a zip of class folders"
            ) from error
        except ZipLimitError as error:
            raise DatasetError(f"{shown}: {error}") from error
        if sha256 not in (None, digest):
            raise DatasetError(f"{shown}: expected the SHA-256 {sha256}, got {digest}; it is not the file you meant")
        folder = cache_folder() / "archives" / digest
        ignored = _read_marker(folder)
        if ignored is None:
            chosen, archive = _open(file, shown, limits)
            ignored = chosen.ignored
            _extract(archive, chosen, folder, shown, progress, limits)
    return Unpacked(folder / _IMAGES, ignored)


def read_unpacked(unpacked: Unpacked, name: str, shown: str) -> Dataset:
    """List the labelled images of an unpacked zip, descending through folders that only wrap them.

    Raises:
        DatasetError: See `read_folder`.
    """
    folder = find_set_folder(unpacked.folder)
    inside = folder.relative_to(unpacked.folder).as_posix()
    dataset = read_folder(folder, shown if inside == "." else f"{shown}/{inside}")
    return replace(dataset, name=name, ignored=tuple(Path(shown, entry) for entry in sorted(unpacked.ignored)))


def _hash(file: IO[bytes], progress: ProgressBars) -> str:
    # The open file, not its path: another file could take that name before it is unpacked.
    digest = hashlib.sha256()
    with progress("checking the archive", os.fstat(file.fileno()).st_size) as advance:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
            advance(len(block))
    return digest.hexdigest()


def _read_marker(folder: Path) -> tuple[str, ...] | None:
    """Return the ignored names of a complete unpacked folder; None if there is none."""
    try:
        marker = json.loads((folder / _MARKER).read_text(encoding="utf-8"))
        if marker["layout"] != _LAYOUT:
            return None
        present = sum(len(files) for _, _, files in os.walk(folder / _IMAGES))
        return tuple(marker["ignored"]) if present == marker["pictures"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _open(file: BoundedFile, shown: str, limits: Limits) -> tuple[Plan, zipfile.ZipFile]:
    file.seek(0)
    looks_like_zip = file.read(2) == b"PK"
    try:
        archive = zipfile.ZipFile(file)
    except ZipLimitError as error:
        raise DatasetError(f"{shown}: {error}") from error
    except ZIP_ERRORS as error:
        if looks_like_zip:
            raise DatasetError(f"{shown}: this zip is cut off or damaged ({error}); get it again") from error
        raise DatasetError(f"{shown}: expected a zip of class folders, got another kind of file") from error
    return plan(archive.infolist(), os.fstat(file.fileno()).st_size, shown, limits), archive


def _extract(
    archive: zipfile.ZipFile, chosen: Plan, folder: Path, shown: str, progress: ProgressBars, limits: Limits
) -> None:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        check_room(folder.parent, chosen.total_bytes, limits.disk_margin_bytes, f"unpacking {shown}")
        if folder.exists() and not (folder / _MARKER).is_file():
            # Incomplete. The name is a hash in our own cache, so no user's file is lost.
            shutil.rmtree(folder)
        with atomic_directory(folder, marker=_MARKER, overwrite=True) as temporary:
            _write_images(archive, chosen, temporary / _IMAGES, shown, progress, limits)
            marker = {"layout": _LAYOUT, "pictures": len(chosen.images), "ignored": chosen.ignored}
            (temporary / _MARKER).write_text(json.dumps(marker), encoding="utf-8")
    except (OSError, OutputError) as error:
        # Another process may have unpacked the same zip meanwhile.
        if _read_marker(folder) is None:
            if isinstance(error, OutputError):
                raise
            raise OutputError(
                f"{folder}: the images of {shown} cannot be written ({error.strerror}); make room or set "
                "EDGEKIT_CACHE to another folder"
            ) from error


def _write_images(
    archive: zipfile.ZipFile, chosen: Plan, folder: Path, shown: str, progress: ProgressBars, limits: Limits
) -> None:
    for name in chosen.folders:
        (folder / name).mkdir(parents=True, exist_ok=True)
    made: set[Path] = set()
    with progress("extracting", chosen.total_bytes) as advance:
        for entry, name in chosen.images:
            target = folder / name
            if target.parent not in made:
                target.parent.mkdir(parents=True, exist_ok=True)
                made.add(target.parent)
            written = 0
            # "x": an existing file or link is never written through.
            with target.open("xb") as file:
                for block in _blocks(archive, entry, shown):
                    written += len(block)
                    if written > min(limits.file_bytes, entry.file_size):
                        raise DatasetError(f"{shown}: {shorten(repr(name))} unpacks to more than it declares")
                    file.write(block)
                    advance(len(block))
            if written != entry.file_size:
                raise DatasetError(f"{shown}: {shorten(repr(name))} unpacks to less than it declares; get it again")


def _blocks(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, shown: str) -> Iterator[bytes]:
    """Yield the content of an entry; errors of reading become DatasetError."""
    try:
        with archive.open(entry) as member:
            while block := member.read(_BLOCK_BYTES):
                yield block
    except ZIP_ERRORS as error:
        raise DatasetError(f"{shown}: this zip is cut off or damaged ({error}); get it again") from error
