"""Which pictures ``edge-run classify`` is given: paths, patterns, lists, watched folders."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from edge_runtime.errors import DataError, UsageError
from edge_runtime.results import Failed
from edge_runtime.sources.images import find_images

if TYPE_CHECKING:
    from edge_runtime.sources.lists import PathList
    from edge_runtime.sources.watch import FolderWatch

_STANDARD_INPUT = "-"
_PROBLEMS_SHOWN, _MOST_PROBLEMS = 3, 1000
_COUNTING_S = 0.5


@dataclass(frozen=True)
class InputChoice:
    """What the command line says about the pictures.

    Attributes:
        paths: Files, folders, patterns, and ``-`` for a list on standard input.
        list_file: A list of paths, or None; ``-`` is standard input.
        null: Whether the paths of lists end with a NUL byte.
        watch: Whether to wait for new files in the folders that ``paths`` are.
        only_new: Whether, when watching, what is there already is left out.
    """

    paths: Sequence[str]
    list_file: str | None = None
    null: bool = False
    watch: bool = False
    only_new: bool = False


class Inputs:
    """Pictures as they are found. Iterate over it once; `close` ends that, also where it waits.

    Raises:
        UsageError: Options that do not go together.
        DataError: A list cannot be opened.
        MissingExtraError: Watching needs a package that is not installed.
    """

    def __init__(self, choice: InputChoice) -> None:
        self._choice = choice
        self._list: PathList | None = None
        self.watch: FolderWatch | None = None
        self._check(choice)
        name = _STANDARD_INPUT if _STANDARD_INPUT in choice.paths else choice.list_file
        if choice.watch:
            from edge_runtime.sources.watch import FolderWatch

            self.watch = FolderWatch([Path(path) for path in choice.paths], only_new=choice.only_new)
        elif name is not None:
            from edge_runtime.sources.lists import PathList

            self._list = PathList(name, null=choice.null)

    def __iter__(self) -> Iterator[Path | Failed]:
        """Yield pictures, and a `Failed` for what leads to none."""
        if self.watch:
            return iter(self.watch)
        given = find_images((Path(path) for path in self._choice.paths if path != _STANDARD_INPUT), patterns=True)
        return chain(given, self._listed())

    def _listed(self) -> Iterator[Path | Failed]:
        for item in self._list or ():
            if isinstance(item, Failed):
                yield item
            else:
                yield from find_images([item])

    def close(self) -> None:
        """End the iteration. May be called from a signal handler, and again."""
        if self.watch:
            self.watch.close()
        if self._list:
            self._list.close()

    def stop(self) -> bool:
        """Close, and say whether that is a good end: what is watched has no other, and what is in work is written."""
        self.close()
        return self.watch is not None

    def count(self) -> int:
        """How many pictures there are, where that is quickly told; else 0."""
        if self.watch or self._list:
            return 0
        until_s = time.monotonic() + _COUNTING_S
        count = 0
        for _ in find_images((Path(path) for path in self._choice.paths), patterns=True):
            count += 1
            if time.monotonic() > until_s:
                return 0
        return count

    @staticmethod
    def _check(choice: InputChoice) -> None:
        if not choice.paths and choice.list_file is None:
            raise UsageError("expected PATH... or --list FILE, which say what to classify, got neither")
        if choice.null and choice.list_file is None and _STANDARD_INPUT not in choice.paths:
            raise UsageError("--null: goes with --list FILE or the path -, whose paths end with NUL bytes")
        if _STANDARD_INPUT in choice.paths and choice.list_file is not None:
            raise UsageError("--list: the path - is a list on standard input already; give one of the two")
        if choice.watch and (choice.list_file is not None or _STANDARD_INPUT in choice.paths):
            raise UsageError("--watch: expected folders, got a list")
        if choice.only_new and not choice.watch:
            raise UsageError("--only-new: goes with --watch")


def with_a_picture(inputs: Iterator[Path | Failed]) -> Iterator[Path | Failed]:
    """The same inputs, once it is sure that there is a picture among the first of them.

    Raises:
        DataError: There is none.
    """
    problems: list[Failed] = []
    for item in inputs:
        if isinstance(item, Path) or len(problems) == _MOST_PROBLEMS:
            return chain(problems, [item], inputs)
        problems.append(item)
    shown = "; ".join(f"{problem.source}: {problem.message}" for problem in problems[:_PROBLEMS_SHOWN])
    more = len(problems) - _PROBLEMS_SHOWN
    raise DataError((shown or "the list holds no paths") + (f"; and {more} more" if more > 0 else ""))


@contextlib.contextmanager
def opened(choice: InputChoice) -> Iterator[Inputs]:
    """Open inputs, and at the end close them and end the threads that listen."""
    inputs = Inputs(choice)
    try:
        yield inputs
    finally:
        inputs.close()
        if inputs.watch:
            inputs.watch.stop()


def unseen(inputs: Iterator[Path | Failed], is_new: Callable[[str], bool]) -> Iterator[Path | Failed]:
    """The inputs whose name is new."""
    for item in inputs:
        if is_new(item.source if isinstance(item, Failed) else str(item)):
            yield item
