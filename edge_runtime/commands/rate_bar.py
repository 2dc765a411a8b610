"""A progress bar that says how many pictures a second."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator

from edge_runtime.progress import Progress, Throttle


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
