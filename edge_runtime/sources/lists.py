"""Lists of paths that another program writes, read as they come."""

from __future__ import annotations

import contextlib
import os
import select
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from edge_runtime.errors import DataError, UsageError
from edge_runtime.results import Failed

STANDARD_INPUT = "-"
MAX_PATH_BYTES = 1 << 16
_BLOCK_BYTES = 1 << 16
_BOM = b"\xef\xbb\xbf"


class PathList:
    """Paths of a file, pipe or standard input, one a line; the next is not read before the last was taken.

    Empty lines are left out. A path is relative to the working directory, and may be of any bytes but its separator
    and NUL. Iterate over it once; an iteration that waits for the writer is ended by `close`, from any thread.

    Args:
        name: The file; ``-`` is standard input.
        null: Whether paths end with a NUL byte, as of ``find -print0``, and not with a newline.

    Raises:
        DataError: The list cannot be opened.
    """

    def __init__(self, name: str, *, null: bool = False) -> None:
        self.name = "standard input" if name == STANDARD_INPUT else name
        self._separator = b"\0" if null else b"\n"
        try:
            if name == STANDARD_INPUT:
                self._handle = os.dup(sys.stdin.fileno())
            else:
                self._handle = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
            if stat.S_ISDIR(os.fstat(self._handle).st_mode):
                os.close(self._handle)
                raise DataError(f"{self.name}: expected a list of paths, got a folder; give it without --list")
        except (OSError, ValueError, AttributeError) as error:
            reason = getattr(error, "strerror", None) or "it is closed"
            raise DataError(f"{self.name}: the list of paths cannot be read ({reason})") from error
        self._woken, self._wake = os.pipe()
        self._started = False

    def __iter__(self) -> Iterator[Path | Failed]:
        """Yield paths, and a `Failed` for a line that is too long to be one.

        Raises:
            DataError: Reading failed.
            UsageError: There are NUL bytes among lines.
        """
        self._started = True
        try:
            for line in self._lines():
                if len(line) > MAX_PATH_BYTES:
                    shown = os.fsdecode(line[:40]) + "..."
                    yield Failed.of(shown, DataError(f"expected a path of at most {MAX_PATH_BYTES} bytes, got more"))
                elif line:
                    yield Path(os.fsdecode(line))
        finally:
            self._release()

    def close(self) -> None:
        """End the iteration, also one that waits; calling it again does nothing."""
        if self._started:
            with contextlib.suppress(OSError):
                os.write(self._wake, b"!")
        else:
            self._started = True
            self._release()

    def _lines(self) -> Iterator[bytes]:
        rest, is_first = b"", True
        while block := self._read():
            if is_first and self._separator == b"\n":
                block, is_first = block.removeprefix(_BOM), False
            if self._separator != b"\0" and b"\0" in block:
                raise UsageError(f"{self.name}: holds NUL bytes; give --null for a list of find -print0, or text")
            *lines, rest = (rest + block).split(self._separator)
            for line in lines:
                yield self._trim(line)
            # Of a line without an end only so much is kept that it is seen to be too long.
            rest = rest[: MAX_PATH_BYTES + 1]
        yield self._trim(rest)

    def _trim(self, line: bytes) -> bytes:
        return line.removesuffix(b"\r") if self._separator == b"\n" else line

    def _read(self) -> bytes:
        poller = select.poll()
        poller.register(self._handle, select.POLLIN)
        poller.register(self._woken, select.POLLIN)
        if any(handle == self._woken for handle, _ in poller.poll()):
            return b""
        try:
            return os.read(self._handle, _BLOCK_BYTES)
        except OSError as error:
            raise DataError(f"{self.name}: the list of paths cannot be read ({error.strerror})") from error

    def _release(self) -> None:
        handles, self._handle, self._woken, self._wake = (self._handle, self._woken, self._wake), -1, -1, -1
        for handle in handles:
            if handle >= 0:
                os.close(handle)
