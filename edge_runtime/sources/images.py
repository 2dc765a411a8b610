"""Picture files from paths, folders and patterns, found lazily."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from edge_runtime.errors import DataError
from edge_runtime.picture_names import IMAGE_SUFFIXES, is_picture_name
from edge_runtime.raw_pictures import RAW_SUFFIXES
from edge_runtime.results import Failed
from edge_runtime.sources.globs import expand, is_pattern


def find_images(paths: Iterable[Path], *, patterns: bool = False) -> Iterator[Path | Failed]:
    """Yield picture files lazily, and a `Failed` in place of a path that is missing, unreadable or has no pictures.

    A file is yielded as it is, whatever its name; of a folder, what has the suffix of a picture or of a raw picture
    (`edge_runtime.raw_pictures`), sorted by name, recursively. Hidden entries and links to folders inside a folder are
    left out. What is kept in memory is the names of one folder a level.

    Args:
        paths: Files and folders.
        patterns: Whether a path that is not there and holds ``*``, ``?`` or ``[`` is a pattern, as a shell has them;
            see `edge_runtime.sources.globs.expand`. What it matches counts as if it had been given instead.
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
    """The pictures of a folder, as `find_images` has them, and a `Failed` for each folder that cannot be read."""
    return _walk(str(folder))


def _find(path: Path) -> Iterator[Path | Failed]:
    # A link that leads nowhere, a socket: opening it will say what is wrong.
    if not os.path.isdir(path):  # noqa: PTH112  Path.is_dir raises for a name that is too long
        yield path
        return
    found = False
    for child in _walk(str(path)):
        found = True
        yield child
    if not found:
        yield _failed(path, f"holds no pictures ({', '.join(sorted(IMAGE_SUFFIXES | RAW_SUFFIXES))})")


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
        elif kind == "file" and is_picture_name(child):
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
