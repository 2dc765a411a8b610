"""Progress of long work: callbacks, and bars on standard error with count and rate."""

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
"""Opens a bar, given its label and its total (0: unknown); `progress_bar` is one, `silent` shows nothing."""


def silent(_label: str, _total: int) -> AbstractContextManager[Progress]:
    """Open a bar that shows nothing."""
    return contextlib.nullcontext(_ignore)


def _ignore(_count: int) -> None:
    return


@contextlib.contextmanager
def progress_bar(label: str, total: int) -> Iterator[Progress]:
    """Show a bar while standard error is a terminal; call the yielded function with a count."""
    if not sys.stderr.isatty():
        yield _ignore
        return
    import click

    with click.progressbar(length=total, label=label, file=sys.stderr, show_pos=True) as bar:
        yield bar.update


@contextlib.contextmanager
def rate_bar(label: str, total: int) -> Iterator[Progress]:
    """Show a bar with count, rate and time left, on a terminal or not; call the yielded function with a count.

    Args:
        label: Text in front of the bar.
        total: Count at the end, 0 where unknown.
    """
    import click

    started_s = time.perf_counter()
    done = 0

    def rate(_item: object) -> str:
        seconds = time.perf_counter() - started_s
        return f"{done / seconds:.0f}/s" if done and seconds > 0 else ""

    of_unknown_length = (None for _ in ())
    with click.progressbar(
        of_unknown_length, length=total or None, label=label, file=sys.stderr, show_pos=True, item_show_func=rate
    ) as bar:

        def advance(count: int) -> None:
            nonlocal done
            done += count
            bar.update(count, None)

        throttle = Throttle(advance)
        yield throttle.add
        throttle.flush()


class Throttle:
    """Progress passed on a few times a second, because drawing a bar takes longer than a small image.

    Args:
        progress: Callback that draws.
        every_s: Seconds between two calls of it.
    """

    def __init__(self, progress: Progress, every_s: float = 0.1) -> None:
        self._progress, self._every_s = progress, every_s
        self._held = 0
        self._passed_s = time.monotonic()

    def add(self, count: int) -> None:
        """Add progress, and pass it on if the time has come."""
        self._held += count
        if time.monotonic() - self._passed_s >= self._every_s:
            self.flush()

    def flush(self) -> None:
        """Pass on what is held."""
        self._passed_s = time.monotonic()
        held, self._held = self._held, 0
        self._progress(held)
