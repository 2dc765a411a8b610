"""Image files from paths, folders, glob patterns and lists, found lazily.

The standard library's ``glob`` is not used: its order depends on the disk, and links to a parent folder make it loop.
"""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import os
import select
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import DataError, UsageError
from edge_runtime.image_files import IMAGE_SUFFIXES, RAW_SUFFIXES, is_image_or_raw_name
from edge_runtime.results import Failed
from edge_runtime.strict import irregularity

_RECENT = 1 << 16


class NameSet:
    """Set of names, stored as 64-bit hashes: 8 bytes each, and a few megabytes for the latest.

    With a million names, the probability that a new name is taken for a known one is 5e-14. Not thread-safe.

    Args:
        names: Initial names of the set.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._sorted: NDArray[np.uint64] = np.empty(0, np.uint64)
        self._recent: set[int] = set()
        for name in names:
            self.add(name)

    def add(self, name: str) -> bool:
        """Add a name; return True if it is new."""
        key = _key(name)
        if self._holds(key):
            return False
        self._recent.add(key)
        if len(self._recent) == _RECENT:
            recent = np.fromiter(self._recent, np.uint64, len(self._recent))
            self._sorted = np.sort(np.concatenate([self._sorted, recent]))
            self._recent.clear()
        return True

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._holds(_key(name))

    def __len__(self) -> int:
        return len(self._sorted) + len(self._recent)

    def _holds(self, key: int) -> bool:
        if key in self._recent:
            return True
        index = int(np.searchsorted(self._sorted, np.uint64(key)))
        return index < len(self._sorted) and int(self._sorted[index]) == key


def _key(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


_MAGIC = frozenset("*?[")
_ANY_DEPTH = "**"


def is_pattern(text: str) -> bool:
    """Tell whether a path contains ``*``, ``?`` or ``[``."""
    return not _MAGIC.isdisjoint(text)


def expand(pattern: str) -> Iterator[Path]:
    """Yield the matches of a pattern, lazily and sorted by name within each folder.

    ``*``, ``?`` and ``[a-c]`` match within one name, a leading dot only if it is written; ``**`` matches this folder
    and all below it, without following links. Folders match too, except for a pattern with ``**``, which finds the
    files in them one by one; only ``photos/**`` itself is ``photos``.

    Args:
        pattern: Pattern relative to the working directory, or absolute.
    """
    path = Path(pattern)
    parts = list(path.parts[1:] if path.anchor else path.parts)
    wanted: Callable[[str], bool] = _is_any
    if parts and parts[-1] == _ANY_DEPTH:
        parts, wanted = parts[:-1], os.path.isdir
    elif _ANY_DEPTH in parts:
        wanted = _is_no_folder
    parts = [part for part, before in zip(parts, ["", *parts], strict=False) if (part, before) != (_ANY_DEPTH,) * 2]
    matches = _match(path.anchor, parts, wanted)
    if parts.count(_ANY_DEPTH) < 2:
        yield from matches
        return

    # With two ``**`` several paths may lead to one file.
    seen = NameSet()
    yield from (match for match in matches if seen.add(str(match)))


def _match(folder: str, parts: Sequence[str], wanted: Callable[[str], bool]) -> Iterator[Path]:
    if not parts:
        if wanted(folder or "."):
            yield Path(folder)
        return
    part, rest = parts[0], parts[1:]
    if part == _ANY_DEPTH:
        yield from _match(folder, rest, wanted)
        for name in _names(folder, "*"):
            below = os.path.join(folder, name)  # noqa: PTH118  a Path would be made for each of a million names
            if os.path.isdir(below) and not os.path.islink(below):  # noqa: PTH112, PTH114
                yield from _match(below, parts, wanted)
    elif not is_pattern(part):
        below = os.path.join(folder, part)  # noqa: PTH118
        if os.path.lexists(below):
            yield from _match(below, rest, wanted)
    else:
        for name in _names(folder, part):
            yield from _match(os.path.join(folder, name), rest, wanted)  # noqa: PTH118


def _is_any(_path: str) -> bool:
    return True


def _is_no_folder(path: str) -> bool:
    return not os.path.isdir(path)  # noqa: PTH112


def _names(folder: str, part: str) -> list[str]:
    """Return the names in a folder that match one part, sorted; none if it is unreadable, as in a shell."""
    try:
        names = os.listdir(folder or ".")  # noqa: PTH208
    except OSError:
        return []
    return sorted(name for name in fnmatch.filter(names, part) if part.startswith(".") or not name.startswith("."))


def find_images(paths: Iterable[Path], *, patterns: bool = False) -> Iterator[Path | Failed]:
    """Yield image files lazily, and a `Failed` in place of a path that is missing, unreadable or has no images.

    A file is yielded whatever its name; a folder gives its files with the suffix of an image or raw image
    (`edge_runtime.image_files`), recursively, sorted by name, without hidden entries and links to folders. Memory
    holds the names of one folder per level.

    Args:
        paths: Files and folders to search.
        patterns: True to expand a missing path with ``*``, ``?`` or ``[`` as a pattern; see `expand`.
    """
    for path in paths:
        missing = _why_missing(path)
        if missing and patterns and is_pattern(str(path)):
            matched = False
            for match in expand(str(path)):
                matched = True
                yield from _find(match)
            if not matched:
                yield _failed(path, "matches nothing")
        elif missing:
            yield _failed(path, missing)
        else:
            yield from _find(path)


def walk(folder: Path) -> Iterator[Path | Failed]:
    """Yield the images of a folder as `find_images` does, and a `Failed` for each unreadable folder."""
    return _walk(str(folder))


def _find(path: Path) -> Iterator[Path | Failed]:
    try:
        kind = irregularity(path)
    except OSError:
        kind = None  # opening a dead link reports the reason
    if kind != "a folder":
        yield _failed(path, f"expected an image file, got {kind}") if kind else path
        return
    found = False
    for child in _walk(str(path)):
        found = True
        yield child
    if not found:
        yield _failed(path, f"holds no images ({', '.join(sorted(IMAGE_SUFFIXES | RAW_SUFFIXES))})")


def _why_missing(path: Path) -> str | None:
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return "no such file or folder"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    except ValueError:
        return "no such file or folder (its name holds a NUL byte)"
    return None


def _walk(folder: str) -> Iterator[Path | Failed]:
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208  a million names are 70 MB, a million Paths 300
    except OSError as error:
        yield _failed(Path(folder), f"cannot be read ({error.strerror})")
        return
    for name in names:
        if name.startswith("."):
            continue
        child = Path(folder, name)
        kind = _kind(child)
        if kind == "folder":
            yield from _walk(str(child))
        elif kind == "file" and is_image_or_raw_name(child):
            yield child


def _kind(path: Path) -> str:
    """``file``, ``folder``, or ``other`` for links to folders, pipes and devices; a dead link counts as a file."""
    try:
        mode = path.lstat().st_mode
        if not stat.S_ISLNK(mode):
            return "folder" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else "other"
        return "file" if stat.S_ISREG(path.stat().st_mode) else "other"
    except OSError:
        return "file"


def _failed(path: Path, reason: str) -> Failed:
    return Failed.of(str(path), DataError(reason))


STANDARD_INPUT = "-"
MAX_PATH_BYTES = 1 << 16
_BLOCK_BYTES = 1 << 16
_BOM = b"\xef\xbb\xbf"


class PathList:
    """Paths from a file, pipe or standard input, one a line, read lazily.

    Empty lines are left out. A path is relative to the working directory and may contain any bytes except the
    separator and NUL. Iterate once; `close`, from any thread, ends an iteration that waits for the writer.

    Args:
        name: File with the list; ``-`` is standard input.
        null: True if paths end with a NUL byte, as with ``find -print0``, and not with a newline.

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
        """Yield paths, and a `Failed` for a line that is too long.

        Raises:
            DataError: The list cannot be read.
            UsageError: A list of lines contains NUL bytes.
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
        """End the iteration, also one that waits; repeated calls do nothing."""
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
            # Keep only enough of an endless line to detect that it is too long.
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
