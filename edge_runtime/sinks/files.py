"""Append results to a file of lines: one writer, whole lines after every fault, rotation by size.

`AppendedFile` appends bytes; `FileSink` writes results to it as JSONL or CSV, for a camera or for a folder of images.
"""

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
from edge_runtime.sinks.rows import open_sink

if TYPE_CHECKING:
    from edge_runtime.preprocess import ImageU8


SYNC_EVERY_S = 5.0
KEPT_FILES = 5
_CAMERA_QUEUE = 1000
_BLOCK_BYTES = 1 << 16
_MAX_LINE_BYTES = 1 << 20
_JSONL_START = b'{"source": '
_LOCKED = (errno.EAGAIN, errno.EACCES)
# O_NONBLOCK: a pipe under this name must not stop the program until somebody reads it.
_OPEN_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class FileSink(Sink):
    """Results as JSONL or CSV rows in an `AppendedFile`, after the rows that are there.

    Its ``write`` raises OSError on a full disk. A camera, which must neither wait for a disk nor end with it, wraps it
    in a `edge_runtime.sinks.background.BackgroundSink`; see `open_file_sink`.

    Args:
        path: File to append to.
        format_name: ``jsonl`` or ``csv``.
        labels: All labels of the model, in output order.
        top_k: Predictions for each result.
        frames: True for frames of a video or camera, which have more columns than images.
        max_bytes: Size at which the file is rotated, or None.
        keep: Number of full files to keep.

    Raises:
        OutputError: See `AppendedFile`; also for a CSV file with other columns.
    """

    def __init__(
        self,
        path: Path,
        format_name: str,
        labels: Sequence[str],
        top_k: int,
        *,
        frames: bool = True,
        max_bytes: int | None = None,
        keep: int = KEPT_FILES,
    ) -> None:
        if format_name not in ("jsonl", "csv"):
            raise ValueError(f"expected jsonl or csv, got {format_name!r}")
        self._text = io.StringIO(newline="")
        self._rows = open_sink(format_name, self._text, labels, top_k, frames=frames)
        header = self._take()
        accepts = _header_check(header) if format_name == "csv" else _is_jsonl
        self._file = AppendedFile(path, header=header, max_bytes=max_bytes, keep=keep, accepts=accepts)

    def write(self, result: Result, image_hwc_rgb_u8: ImageU8 | None = None) -> None:  # noqa: ARG002
        """Append one row; see `AppendedFile.write_line`."""
        self._rows.write(result)
        self._file.write_line(self._take())

    def close(self) -> None:
        """Sync the rows to disk and release the lock; calling it again does nothing."""
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
    keep: int = KEPT_FILES,
    live: bool = True,
) -> Sink:
    """Make the sink of a camera's ``--output``: a `FileSink`, with its parameters and two more.

    ``every`` is ``frame`` or ``event``; see `edge_runtime.sinks.rows.open_frame_sink`. A ``live`` sink goes on through
    errors, as a `edge_runtime.sinks.base.MonitoredSink`. Otherwise ``write`` waits for the disk and raises OSError,
    which is right for a video file, where every frame counts.

    Raises:
        OutputError: The file cannot be opened, another program writes to it, or it holds something else.
    """
    sink = FileSink(path, format_name, labels, top_k, max_bytes=max_bytes, keep=keep)
    if not live:
        return NewsOnly(sink) if every == "event" else sink
    return BackgroundSink(sink, "output", capacity=_CAMERA_QUEUE, wants=is_news if every == "event" else None)


def _is_jsonl(line: bytes, complete: bool) -> bool:
    """Tell whether a first line is a record of `edge_runtime.results.to_record`, or a crash's part of one."""
    if not complete:
        torn = line.rstrip(b"\0")
        return len(torn) < _MAX_LINE_BYTES and (torn.startswith(_JSONL_START) or _JSONL_START.startswith(torn))
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(record, dict) and "source" in record


def _header_check(header: bytes) -> Callable[[bytes, bool], bool]:
    """Make the check that a first line is this header, or a crash's part of it."""
    expected = header.removesuffix(b"\n")
    return lambda line, complete: line == expected if complete else expected.startswith(line.rstrip(b"\0"))


class AppendedFile:
    """A file to which whole lines are appended; a full one is renamed to ``PATH.1``, ``PATH.1`` to ``PATH.2``, ...

    Each line is one write, so readers see whole lines, and a killed process leaves whole lines. A partial line is cut
    off: after a failed write at once, after a crash when the file is opened. Lines are synced to disk (fdatasync) with
    the first write at least `SYNC_EVERY_S` seconds after the last sync, at rotation and at closing: a power cut loses
    the last seconds, and flash is not worn by a sync for each line. If another program renames or removes the file
    (logrotate), a new one is made. Not thread-safe.

    Args:
        path: File to append to; its folders are made.
        header: First line of every file, or nothing.
        max_bytes: Largest size in bytes, exceeded only by a single longer line; None never rotates.
        keep: Number of full files to keep, at least 1.
        accepts: Check of an existing file by its first line without the newline; the second argument is False if the
            newline was missing. None accepts any file.

    Raises:
        OutputError: Another program writes to it, it cannot be opened, or ``accepts`` refuses it.
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
        # Links are resolved so that one file has one lock.
        self._path = Path(os.path.realpath(path))
        self._header, self._max_bytes, self._keep, self._accepts = header, max_bytes, keep, accepts
        self._handle = -1
        self._lock: WriterLock | None = None
        self._synced_s = time.monotonic()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._open()
        except (OSError, OutputError) as error:
            self.close()
            if isinstance(error, OutputError):
                raise
            raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another file") from error

    def write_line(self, line: bytes) -> None:
        """Append one line with its newline, completely or not at all.

        Raises:
            OSError: The line cannot be written, for example to a full disk; a later line may succeed.
            OutputError: Another file, which ``accepts`` refuses, has taken its place.
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
        """Sync the lines to disk and release the lock; calling it again does nothing."""
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
        handle = os.open(self._path, _OPEN_FLAGS | os.O_APPEND, 0o644)
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise OutputError(f"{self._path}: expected a file to append to, got a device, pipe or socket")
            if self._lock and not self._lock.holds:
                self._lock.close()
                self._lock = None
            self._lock = self._lock or WriterLock(self._path.with_name(f".{self._path.name}.lock"), self._path)
            if self._accepts and os.fstat(handle).st_size:
                line, newline, _ = os.pread(handle, _MAX_LINE_BYTES, 0).partition(b"\n")
                if not self._accepts(line, bool(newline)):
                    problem = "contains something other than rows of this run; choose another name or move it away"
                    raise OutputError(f"{self._path}: {problem}")
            _cut_partial_line(handle)
        except BaseException:
            os.close(handle)
            raise
        self._handle = handle

    def _append(self, data: bytes, size: int) -> None:
        """Write all of ``data`` at the end of a file of ``size`` bytes, or cut off the part that was written."""
        written = 0
        try:
            while written < len(data):
                written += os.write(self._handle, data[written:])
        finally:
            # Also after KeyboardInterrupt. If cutting fails too, reopening the file repairs it.
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


def _cut_partial_line(handle: int) -> None:
    """Cut the bytes after the last newline of an open file: a partial line, or zeros after a power cut."""
    size = end = os.fstat(handle).st_size
    while end > 0:
        start = max(0, end - _BLOCK_BYTES)
        newline = os.pread(handle, end - start, start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    if end < size:
        os.ftruncate(handle, end)


class WriterLock:
    """An exclusive ``flock`` on an empty hidden file beside the output.

    The output itself is not locked: rotation renames it, and a second writer could open it in between. The lock file
    is never removed, which would be a race.

    Args:
        path: Lock file, in an existing folder.
        output: File or folder being written, for messages.

    Raises:
        OutputError: Another program, or another sink of this one, writes there.
        OSError: The lock file cannot be opened.
    """

    def __init__(self, path: Path, output: Path) -> None:
        self._path = path
        self._handle = os.open(path, _OPEN_FLAGS, 0o644)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.close()
            if error.errno in _LOCKED:
                raise OutputError(
                    f"{output}: another edge-run is writing there; stop that one or choose another name"
                ) from error
            raise

    @property
    def holds(self) -> bool:
        """True while the path leads to the locked file; a removed or remounted folder has another."""
        return self._handle >= 0 and is_same_file(self._path, self._handle)

    def close(self) -> None:
        """Release the lock; calling it again does nothing."""
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)


def is_same_file(path: Path, handle: int) -> bool:
    """Tell whether a path leads to the file or folder that is open as ``handle``."""
    try:
        found = path.lstat()
    except OSError:
        return False
    opened = os.fstat(handle)
    return (found.st_dev, found.st_ino) == (opened.st_dev, opened.st_ino)
