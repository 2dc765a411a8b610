"""Patterns such as ``photos/**/*.jpg``, for where no shell has expanded them: in quotes, in services, on other systems.

Not the standard library's ``glob``, because that gives names in the order of the disk and follows a link to a folder
above it round and round.
"""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

_MAGIC = frozenset("*?[")
_ANY_DEPTH = "**"


def is_pattern(text: str) -> bool:
    """Whether a path holds ``*``, ``?`` or ``[``."""
    return not _MAGIC.isdisjoint(text)


def expand(pattern: str) -> Iterator[Path]:
    """Yield what a pattern matches, lazily and sorted by name within each folder.

    ``*``, ``?`` and ``[a-c]`` match within one name, and never a leading dot that is not written; ``**`` stands for
    this folder and all below it, without following links. Folders are matched too, except by a pattern with ``**``,
    which finds the files in them one by one; only ``photos/**`` itself is ``photos``.

    Args:
        pattern: Relative to the working directory, or absolute.
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
    from edge_runtime.sources.names import NameSet

    # Two of them may lead to one file in several ways.
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
    """Names in a folder that match one part, sorted; none where it cannot be read, as in a shell."""
    try:
        names = os.listdir(folder or ".")  # noqa: PTH208
    except OSError:
        return []
    return sorted(name for name in fnmatch.filter(names, part) if part.startswith(".") or not name.startswith("."))
