"""Unpack the images of an untrusted zip once, into the cache; anything suspicious refuses the archive.

Names are checked as they will be written, sizes as declared and again as unpacked.
``archives/<sha256>/`` holds ``pictures/`` and the marker ``COMPLETE`` with their number: a folder from which files were
deleted is unpacked again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import stat
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from edge_runtime.contract import look_alike_key
from edge_runtime.errors import DatasetError, OutputError, shorten
from edge_runtime.image_files import is_image_or_raw_name
from edge_runtime.platform.atomic import atomic_directory, check_room
from edge_runtime.platform.process import cache_folder
from edge_runtime.platform.zips import ZIP_ERRORS, BoundedFile, ZipLimitError
from edge_runtime.preprocess import MAX_FILE_BYTES
from edge_runtime.progress import ProgressBars, silent
from edge_runtime.workstation.datasets.folder import MAC_LEFTOVERS, find_set_folder, read_folder
from edge_runtime.workstation.datasets.samples import Dataset

_MARKER = "COMPLETE"
_IMAGES = "pictures"
# Part of the marker: a change of the layout invalidates older folders.
_LAYOUT = 2
_BLOCK_BYTES = 1 << 20

_ENCRYPTED = 0x1 | 0x40
_UTF8_NAME = 0x800
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_MAX_PART_BYTES = 255
_MAX_NAME_BYTES = 1024


@dataclass(frozen=True)
class Limits:
    """Upper limits on the content of an archive.

    Attributes:
        entries: Number of files and folders; the table of contents of 400,000 takes 250 MB of memory.
        others: Number of files that are no images, where there are more than three for an image.
        directory_bytes: Size of the table of contents, which is read at once.
        total_bytes: Unpacked size of all images.
        file_bytes: Unpacked size of one image.
        ratio: Ratio of unpacked to packed size, of the whole and of each image.
        ratio_free_bytes: Unpacked size up to which the ratio is ignored, because small drawings pack extremely well.
        disk_margin_bytes: Space to leave free on the disk.
    """

    entries: int = 400_000
    others: int = 10_000
    directory_bytes: int = 64 << 20
    total_bytes: int = 100 << 30
    file_bytes: int = MAX_FILE_BYTES
    ratio: int = 200
    ratio_free_bytes: int = 16 << 20
    disk_margin_bytes: int = 256 << 20


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


def _open(file: BoundedFile, shown: str, limits: Limits) -> tuple[_Plan, zipfile.ZipFile]:
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
    return _plan(archive.infolist(), os.fstat(file.fileno()).st_size, shown, limits), archive


def _extract(
    archive: zipfile.ZipFile, chosen: _Plan, folder: Path, shown: str, progress: ProgressBars, limits: Limits
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
    archive: zipfile.ZipFile, chosen: _Plan, folder: Path, shown: str, progress: ProgressBars, limits: Limits
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


@dataclass(frozen=True)
class _Plan:
    images: tuple[tuple[zipfile.ZipInfo, str], ...]  # with their paths below the destination
    folders: tuple[str, ...]  # others, so that a class without images is noticed as in an ordinary folder
    ignored: tuple[str, ...]
    total_bytes: int


def _plan(entries: Sequence[zipfile.ZipInfo], zip_bytes: int, shown: str, limits: Limits) -> _Plan:
    """Check every entry and choose the images; raises DatasetError if one is dangerous, damaged or too large."""
    names = _Names(shown)
    images: list[tuple[zipfile.ZipInfo, str]] = []
    folders: list[str] = []
    ignored: list[str] = []
    total = 0
    for entry in entries:
        parts = _checked_parts(entry, shown)
        if not parts or any(part.startswith(".") or part == MAC_LEFTOVERS for part in parts):
            continue
        name = "/".join(parts)
        names.claim(parts, is_folder=entry.is_dir())
        if entry.is_dir():
            folders.append(name)
        elif is_image_or_raw_name(Path(name)):
            _check_image(entry, f"{shown}: {shorten(repr(name))}", limits)
            total += entry.file_size
            images.append((entry, name))
        else:
            folders.append("/".join(parts[:-1]))
            ignored.append(name)
    if not images:
        raise DatasetError(f"{shown}: holds no images, only {len(ignored)} other files; give a zip of class folders")
    if len(ignored) > max(limits.others, 3 * len(images)):
        found = f"{len(images):,} images and {len(ignored):,} other files"
        raise DatasetError(f"{shown}: holds {found}; expected a zip of class folders of images")
    _check_total(total, zip_bytes, shown, limits)
    return _Plan(tuple(images), tuple(dict.fromkeys(filter(None, folders))), tuple(ignored), total)


def _checked_parts(entry: zipfile.ZipInfo, shown: str) -> list[str]:
    """Split an entry's path; raises DatasetError if it leads out of the folder, is special or is encrypted."""
    name = _decoded_name(entry)
    quoted = shorten(repr(name))
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or "\\" in name or re.match("[A-Za-z]:", name) or "\0" in name:
        raise DatasetError(f"{shown}: holds {quoted}, a path that could lead out of the folder; nothing was unpacked")
    if len(name.encode()) > _MAX_NAME_BYTES or any(len(part.encode()) > _MAX_PART_BYTES for part in parts):
        raise DatasetError(f"{shown}: holds {quoted}, a name that is too long for a file; nothing was unpacked")
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        what = "a link" if kind == stat.S_IFLNK else "a special file"
        raise DatasetError(f"{shown}: holds {quoted}, {what}; expected only files and folders, nothing was unpacked")
    if entry.flag_bits & _ENCRYPTED:
        raise DatasetError(f"{shown}: {quoted} is encrypted; unpack it with its password and give the folder")
    return parts


def _decoded_name(entry: zipfile.ZipInfo) -> str:
    """Decode the whole stored name; `ZipInfo.filename` ends at a NUL."""
    name = entry.orig_filename
    if entry.flag_bits & _UTF8_NAME or name.isascii():
        return name
    try:
        # macOS writes UTF-8 without its flag. Text in the old DOS encoding is hardly ever valid UTF-8.
        return name.encode("cp437").decode("utf-8")
    except UnicodeError:
        return name


class _Names:
    """Paths so far, to find two that would become one file on some disk."""

    def __init__(self, shown: str) -> None:
        self._shown = shown
        self._seen: dict[str, tuple[str, bool]] = {}
        self._folder: list[str] = []

    def claim(self, parts: list[str], *, is_folder: bool) -> None:
        """Take a path and the folders above it; raises DatasetError if it collides with one taken before."""
        folder = parts if is_folder else parts[:-1]
        if folder != self._folder:
            for depth in range(1, len(folder) + 1):
                self._claim("/".join(folder[:depth]), is_folder=True)
            self._folder = folder
        if not is_folder:
            self._claim("/".join(parts), is_folder=False)

    def _claim(self, name: str, *, is_folder: bool) -> None:
        key = look_alike_key(name)
        other = self._seen.get(key)
        if other is None:
            self._seen[key] = (name, is_folder)
        elif other[0] != name:
            pair = f"{shorten(ascii(other[0]))} and {shorten(ascii(name))}"
            raise DatasetError(f"{self._shown}: holds {pair}, which differ in case or encoding only; rename one")
        elif other[1] != is_folder:
            raise DatasetError(f"{self._shown}: holds {shorten(repr(name))} both as a file and as a folder")
        elif not is_folder:
            raise DatasetError(f"{self._shown}: holds {shorten(repr(name))} twice; nothing was unpacked")


def _check_image(entry: zipfile.ZipInfo, what: str, limits: Limits) -> None:
    if entry.compress_type not in _METHODS:
        raise DatasetError(
            f"{what} is packed by method {entry.compress_type}; expected an ordinary zip (0 stored or 8 deflate)"
        )
    if entry.file_size > limits.file_bytes:
        raise DatasetError(
            f"{what} unpacks to {entry.file_size / 2**20:,.0f} MiB; expected images of at most "
            f"{limits.file_bytes >> 20} MiB"
        )
    if entry.file_size > max(limits.ratio_free_bytes, limits.ratio * entry.compress_size):
        raise DatasetError(_bomb(what, limits))


def _check_total(total: int, zip_bytes: int, shown: str, limits: Limits) -> None:
    if total > limits.total_bytes:
        raise DatasetError(
            f"{shown}: unpacks to {total / 2**30:,.1f} GiB; expected at most {limits.total_bytes >> 30} GiB"
        )
    # Against the size of the file: entries may share packed data, and each declares it as its own.
    if total > max(limits.ratio_free_bytes, limits.ratio * zip_bytes):
        raise DatasetError(_bomb(shown, limits))


def _bomb(what: str, limits: Limits) -> str:
    return (
        f"{what} unpacks to more than {limits.ratio} times its packed size, as archives made to fill a disk do; "
        "if you trust it, unpack it yourself and give the folder"
    )
