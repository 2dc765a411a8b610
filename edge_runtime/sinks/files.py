"""Appending files of rows: one writer, rotation by size, and repair after a crash or a full disk."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import json
import os
import stat
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edge_runtime.errors import OutputError
from edge_runtime.results import Result
from edge_runtime.sinks.background import BackgroundSink
from edge_runtime.sinks.base import NewsOnly, Sink, is_news
from edge_runtime.sinks.opening import open_sink

if TYPE_CHECKING:
    from edge_runtime.preprocess import ImageU8


_BLOCK = 1 << 16
_LONGEST_LINE = 1 << 20
_JSONL_START = b'{"source": '


def first_line(handle: int) -> tuple[bytes, bool]:
    """The first line of an open file without its newline, at most a mebibyte of it, and whether it had a newline."""
    data = os.pread(handle, _LONGEST_LINE, 0)
    line, newline, _ = data.partition(b"\n")
    return line, bool(newline)


def is_jsonl(line: bytes, whole: bool) -> bool:
    """Whether a first line is a record of `edge_runtime.results.to_record`, or what a crash left of one."""
    if not whole:
        torn = line.rstrip(b"\0")
        return len(torn) < _LONGEST_LINE and (torn.startswith(_JSONL_START) or _JSONL_START.startswith(torn))
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(record, dict) and "source" in record


def is_csv_with(header: bytes) -> Callable[[bytes, bool], bool]:
    """Make the check that a first line is this header, or what a crash left of it."""
    expected = header.removesuffix(b"\n")

    def check(line: bytes, whole: bool) -> bool:
        return line == expected if whole else expected.startswith(line.rstrip(b"\0"))

    return check


def repair_end(handle: int) -> None:
    """Cut what comes after the last newline of an open file: half a line, or zeros after a cut of power.

    Raises:
        OSError: It cannot be read or cut.
    """
    size = end = os.fstat(handle).st_size
    while end > 0:
        start = max(0, end - _BLOCK)
        newline = os.pread(handle, end - start, start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    if end < size:
        os.ftruncate(handle, end)


_HELD_BY_ANOTHER = (errno.EAGAIN, errno.EACCES)


class OneWriter:
    """Holds ``flock`` on an empty hidden file beside the output, which is left behind: removing it would be a race.

    Not the output itself is locked, because it is renamed when it is rotated, and between two names a second writer
    could come in.

    Args:
        path: The lock file; its folder exists.
        output: What is being written, for messages.

    Raises:
        OutputError: Another program, or another sink of this one, is writing there.
        OSError: The lock file cannot be made.
    """

    def __init__(self, path: Path, output: Path) -> None:
        self._path = path
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        self._handle = os.open(path, flags, 0o644)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.close()
            if error.errno in _HELD_BY_ANOTHER:
                raise OutputError(
                    f"{output}: another edge-run is writing there; stop that one or choose another name"
                ) from error
            raise

    @property
    def holds(self) -> bool:
        """Whether the lock file is still the one that was locked; a removed or remounted folder has another."""
        return self._handle >= 0 and is_same_file(self._path, self._handle)

    def close(self) -> None:
        """Let others write; calling it again does nothing."""
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)


def is_same_file(path: Path, handle: int) -> bool:
    """Whether a path still leads to the file or folder that is open."""
    try:
        found = path.lstat()
    except OSError:
        return False
    opened = os.fstat(handle)
    return (found.st_dev, found.st_ino) == (opened.st_dev, opened.st_ino)


SYNC_EVERY_S = 5.0
KEPT_FILES = 5


class RotatingFile:
    """Appends whole lines to ``PATH``; when it is full it becomes ``PATH.1``, ``PATH.1`` becomes ``PATH.2``, and so on.

    Each line is one write, so a reader and a killed process see whole lines. What a full disk leaves of a line is cut
    off again, and so is what a killed machine left of the last one, when the file is opened. Lines reach the disk
    itself (fdatasync) at most `SYNC_EVERY_S` seconds after the write that follows them, at rotation and at closing: a
    cut of power loses the last seconds, and flash is not worn out by a sync for each line. A file that somebody
    renames or removes (logrotate) is made anew. Not thread-safe.

    Args:
        path: The file; folders above it are made.
        header: A line that every file begins with, or nothing.
        max_bytes: Size that a file does not pass, unless one line alone does; None never rotates.
        keep: How many full files are kept, at least 1.
        accepts: Says of the first line of an existing file (without its newline; the second argument tells whether it
            had one) whether this file is one to append to. None accepts any.

    Raises:
        OutputError: Another program is writing there, the file cannot be opened, or it is not one to append to.
    """

    def __init__(
        self,
        path: Path,
        *,
        header: bytes = b"",
        max_bytes: int | None = None,
        keep: int = KEPT_FILES,
        accepts: Callable[[bytes, bool], bool] | None = None,
    ) -> None:
        if keep < 1 or (max_bytes is not None and max_bytes < 1):
            raise ValueError(f"expected keep and max_bytes of at least 1, got {keep} and {max_bytes}")
        # With links resolved, the same file has one name, and so one lock.
        self._path = Path(os.path.realpath(path))
        self._header, self._max_bytes, self._keep, self._accepts = header, max_bytes, keep, accepts
        self._handle = -1
        self._lock: OneWriter | None = None
        self._synced_s = time.monotonic()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._open()
        except OSError as error:
            self.close()
            raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another file") from error
        except OutputError:
            self.close()
            raise

    def write_line(self, line: bytes) -> None:
        """Append a line, which ends with its newline, whole or not at all.

        Raises:
            OSError: It cannot be written, for example because the disk is full; the next line may be tried.
            OutputError: The file was replaced by one that is not to be appended to.
        """
        if self._handle < 0 or not is_same_file(self._path, self._handle):
            self._open()
        size = os.fstat(self._handle).st_size
        data = line if size else self._header + line
        if self._max_bytes is not None and size > len(self._header) and size + len(line) > self._max_bytes:
            self._rotate()
            size, data = 0, self._header + line
        self._append(data, size)
        if time.monotonic() - self._synced_s >= SYNC_EVERY_S:
            self._sync()

    def close(self) -> None:
        """Bring the lines to the disk and let others write; calling it again does nothing."""
        try:
            if self._handle >= 0:
                self._sync()
        finally:
            self._close_file()
            lock, self._lock = self._lock, None
            if lock:
                lock.close()

    def _open(self) -> None:
        self._close_file()
        # O_NONBLOCK: a pipe under this name must not hold the program until somebody reads it.
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        handle = os.open(self._path, flags, 0o644)
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise OutputError(f"{self._path}: expected a file to append to, got a device, pipe or socket")
            self._hold_lock()
            self._check(handle)
            repair_end(handle)
        except BaseException:
            os.close(handle)
            raise
        self._handle = handle

    def _hold_lock(self) -> None:
        if self._lock and not self._lock.holds:
            self._lock.close()
            self._lock = None
        self._lock = self._lock or OneWriter(self._path.with_name(f".{self._path.name}.lock"), self._path)

    def _check(self, handle: int) -> None:
        if os.fstat(handle).st_size and self._accepts and not self._accepts(*first_line(handle)):
            raise OutputError(
                f"{self._path}: holds something else than the rows of this run; choose another name or move it away"
            )

    def _append(self, data: bytes, size: int) -> None:
        """Write all of ``data`` at the end of a file of ``size`` bytes, or cut back what was written of it."""
        written = 0
        try:
            while written < len(data):
                written += os.write(self._handle, data[written:])
        finally:
            # Also for KeyboardInterrupt, and where even cutting fails: then the file is repaired when it is reopened.
            if written < len(data):
                try:
                    os.ftruncate(self._handle, size)
                except OSError:
                    self._close_file()

    def _rotate(self) -> None:
        self._sync()
        for number in range(self._keep - 1, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                self._numbered(number).replace(self._numbered(number + 1))
        self._path.replace(self._numbered(1))
        self._open()

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")

    def _sync(self) -> None:
        self._synced_s = time.monotonic()
        os.fdatasync(self._handle)

    def _close_file(self) -> None:
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)


class FileSink(Sink):
    """Results of a camera as JSONL or CSV in a `RotatingFile`, appended to what is there.

    Its ``write`` raises OSError on a full disk. Put it into a `edge_runtime.sinks.background.BackgroundSink` for a
    camera, which must not wait for a disk or end with it.

    Args:
        path: The file.
        format_name: ``jsonl`` or ``csv``.
        labels: All labels of the model.
        top_k: Predictions for each result.
        max_bytes: See `RotatingFile`.
        keep: See `RotatingFile`.

    Raises:
        OutputError: See `RotatingFile`; also an existing CSV file with other columns.
    """

    def __init__(
        self,
        path: Path,
        format_name: str,
        labels: Sequence[str],
        top_k: int,
        *,
        max_bytes: int | None = None,
        keep: int = KEPT_FILES,
    ) -> None:
        if format_name not in ("jsonl", "csv"):
            raise ValueError(f"expected jsonl or csv, got {format_name!r}")
        self._text = io.StringIO(newline="")
        self._rows = open_sink(format_name, self._text, labels, top_k, frames=True)
        header = self._take()
        accepts = is_csv_with(header) if format_name == "csv" else is_jsonl
        self._file = RotatingFile(path, header=header, max_bytes=max_bytes, keep=keep, accepts=accepts)

    def write(self, result: Result, image_hwc_rgb_u8: ImageU8 | None = None) -> None:  # noqa: ARG002
        """Append one line; see `RotatingFile.write_line`."""
        self._rows.write(result)
        self._file.write_line(self._take())

    def close(self) -> None:
        """Bring the lines to the disk and let others write."""
        self._file.close()

    def _take(self) -> bytes:
        text = self._text.getvalue()
        self._text.seek(0)
        self._text.truncate()
        return text.encode("utf-8", errors="backslashreplace")


def open_file_sink(
    path: Path,
    format_name: str,
    labels: Sequence[str],
    top_k: int,
    *,
    every: str = "frame",
    max_bytes: int | None = None,
    keep: int = 5,
    live: bool = True,
) -> Sink:
    """Make the sink of a camera's ``--output``; see `edge_runtime.sinks.files.FileSink`.

    Args:
        path: The file, which is appended to.
        format_name: ``jsonl`` or ``csv``.
        labels: All labels of the model.
        top_k: Predictions for each result.
        every: As for `open_frame_sink`.
        max_bytes: Size at which the file is rotated, or None.
        keep: How many full files are kept.
        live: Whether to go on through trouble, as a `edge_runtime.sinks.base.MonitoredSink`. Otherwise ``write`` waits
            for the disk and raises OSError, as is right for a video file, of which every frame counts.

    Raises:
        OutputError: The file cannot be opened, another program writes to it, or it holds something else.
    """
    sink = FileSink(path, format_name, labels, top_k, max_bytes=max_bytes, keep=keep)
    if not live:
        return NewsOnly(sink) if every == "event" else sink
    return BackgroundSink(sink, "output", capacity=1000, wants=is_news if every == "event" else None)
