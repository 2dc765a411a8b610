"""Choose the entries of a zip to unpack, from its table of contents; anything suspicious refuses the archive.

Names are checked as they will be written, sizes as declared; `archive.py` checks the unpacked sizes again.
"""

from __future__ import annotations

import re
import stat
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.contract import look_alike_key
from edge_runtime.errors import DatasetError, shorten
from edge_runtime.image_files import is_image_or_raw_name
from edge_runtime.preprocess import MAX_FILE_BYTES
from edge_runtime.workstation.datasets.samples import MAX_IMAGES

_ENCRYPTED = 0x1 | 0x40
_UTF8_NAME = 0x800
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_MAC_LEFTOVERS = "__MACOSX"
_MAX_PART_BYTES = 255
_MAX_NAME_BYTES = 1024


@dataclass(frozen=True)
class Limits:
    """Upper limits on the content of an archive.

    Attributes:
        entries: Number of files and folders.
        directory_bytes: Size of the table of contents, which is read at once.
        total_bytes: Unpacked size of all images.
        file_bytes: Unpacked size of one image.
        ratio: Ratio of unpacked to packed size, of the whole and of each image.
        ratio_free_bytes: Unpacked size up to which the ratio is ignored, because small drawings pack extremely well.
        disk_margin_bytes: Space to leave free on the disk.
    """

    entries: int = MAX_IMAGES
    directory_bytes: int = 128 << 20
    total_bytes: int = 100 << 30
    file_bytes: int = MAX_FILE_BYTES
    ratio: int = 200
    ratio_free_bytes: int = 16 << 20
    disk_margin_bytes: int = 256 << 20


@dataclass(frozen=True)
class Plan:
    """Entries to unpack.

    Attributes:
        images: Entries with their paths below the destination.
        folders: Other folders, so that a class without images is noticed as in an ordinary folder.
        ignored: Names of the files without the suffix of an image.
        total_bytes: Declared size of all images.
    """

    images: tuple[tuple[zipfile.ZipInfo, str], ...]
    folders: tuple[str, ...]
    ignored: tuple[str, ...]
    total_bytes: int


def plan(entries: Sequence[zipfile.ZipInfo], zip_bytes: int, shown: str, limits: Limits) -> Plan:
    """Check every entry and choose the images.

    Args:
        entries: Table of contents of the archive.
        zip_bytes: Size of the archive file.
        shown: Name of the archive in messages.
        limits: Limits on the content.

    Raises:
        DatasetError: An entry is dangerous, damaged or too large, or the archive holds no images.
    """
    names = _Names(shown)
    images: list[tuple[zipfile.ZipInfo, str]] = []
    folders: list[str] = []
    ignored: list[str] = []
    total = 0
    for entry in entries:
        parts = _checked_parts(entry, shown)
        if not parts or any(part.startswith(".") or part == _MAC_LEFTOVERS for part in parts):
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
    _check_total(total, zip_bytes, shown, limits)
    return Plan(tuple(images), tuple(dict.fromkeys(filter(None, folders))), tuple(ignored), total)


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
