"""Zip files of unknown origin: opened only while the table of contents is small, members read only up to a limit."""

from __future__ import annotations

import contextlib
import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

# Exceptions of Python's zip reader, and of numpy's for .npz, for a damaged or hostile archive.
ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    KeyError,
    ValueError,
    TypeError,
    MemoryError,
    SyntaxError,
    RuntimeError,  # encryption; also the base of NotImplementedError, for unsupported features
)
_ENTRY = b"PK\x01\x02"
_ENCRYPTED = 0x1 | 0x40
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


class ZipLimitError(zipfile.BadZipFile):
    """An archive that is larger than its reader accepts."""


class BoundedFile(io.BufferedReader):
    """File for `zipfile.ZipFile`, which would read a table of contents of any size and number of entries.

    Args:
        path: Path of the archive.
        directory_bytes: Largest table of contents.
        entries: Largest number of entries.

    A larger one raises ZipLimitError while the archive is opened.
    """

    def __init__(self, path: Path, directory_bytes: int, entries: int) -> None:
        super().__init__(io.FileIO(path))
        self._most_bytes, self._most_entries = directory_bytes, entries

    def read(self, size: int | None = -1, /) -> bytes:
        """Read at most the bytes of the largest table of contents."""
        wanted = self._most_bytes + 1 if size is None or size < 0 else size
        data = super().read(min(wanted, self._most_bytes + 1))
        if len(data) > self._most_bytes:
            most = f"{self._most_bytes / 2**20:,.0f} MiB"
            raise ZipLimitError(f"expected a table of contents of at most {most}, got more")
        if data.startswith(_ENTRY) and data.count(_ENTRY) > self._most_entries:
            raise ZipLimitError(f"expected at most {self._most_entries:,} entries, got more")
        return data


@contextlib.contextmanager
def open_small_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip of at most 1,000 entries; raises one of `ZIP_ERRORS`."""
    with BoundedFile(path, 1 << 20, 1000) as file, zipfile.ZipFile(file) as archive:
        yield archive


def read_member(archive: zipfile.ZipFile, name: str, most_bytes: int) -> bytes:
    """Read one member that is stored or deflated, not encrypted, and not too large; raises one of `ZIP_ERRORS`."""
    info = archive.getinfo(name)
    if info.file_size > most_bytes:
        raise ZipLimitError(f"expected at most {most_bytes:,} bytes of {name}, got {info.file_size:,}")
    if info.flag_bits & _ENCRYPTED or info.compress_type not in _METHODS:
        raise zipfile.BadZipFile(f"{name} is encrypted or packed in a rare way")
    with archive.open(info) as member:
        content = member.read(most_bytes)
    if len(content) != info.file_size:
        raise zipfile.BadZipFile(f"{name} holds {len(content):,} of {info.file_size:,} bytes")
    return content
