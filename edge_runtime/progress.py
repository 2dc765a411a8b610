"""Progress callbacks of long work, and a progress bar that shows images per second."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TypeAlias

Progress: TypeAlias = Callable[[int], None]
"""Called with how much was done since the last call, in the unit of the bar's total."""

ProgressBars: TypeAlias = Callable[[str, int], AbstractContextManager[Progress]]
"""Opens a bar, given its label and its total; `edge_runtime.cli_support.progress_bar` is one. A total of 0: unknown."""


def silent(_label: str, _total: int) -> AbstractContextManager[Progress]:
    """A bar that shows nothing."""
    return contextlib.nullcontext(_ignore)


def _ignore(_count: int) -> None:
    return


class Throttle:
    """Passes progress on a few times a second, because drawing a bar takes longer than a small image.

    Args:
        progress: Where to.
        every_s: Seconds between two calls.
    """

    def __init__(self, progress: Progress, every_s: float = 0.1) -> None:
        self._progress, self._every_s = progress, every_s
        self._held = 0
        self._passed_s = time.monotonic()

    def add(self, count: int) -> None:
        """Take progress, and pass it on when it is time."""
        self._held += count
        if time.monotonic() - self._passed_s >= self._every_s:
            self.flush()

    def flush(self) -> None:
        """Pass on what is held."""
        self._passed_s = time.monotonic()
        held, self._held = self._held, 0
        self._progress(held)


@contextlib.contextmanager
def rate_bar(label: str, total: int) -> Iterator[Progress]:
    """A bar on standard error with count, rate and time left; call the yielded function with a count.

    Args:
        label: What is being done.
        total: How many there are, 0 where that is not known.
    """
    import click

    started_s = time.perf_counter()
    done = 0

    def rate(_item: object) -> str:
        seconds = time.perf_counter() - started_s
        return f"{done / seconds:.0f}/s" if done and seconds > 0 else ""

    endless = (None for _ in ())  # of unknown length
    with click.progressbar(
        endless, length=total or None, label=label, file=sys.stderr, show_pos=True, item_show_func=rate
    ) as bar:

        def advance(count: int) -> None:
            nonlocal done
            done += count
            bar.update(count, None)

        throttle = Throttle(advance)
        yield throttle.add
        throttle.flush()
