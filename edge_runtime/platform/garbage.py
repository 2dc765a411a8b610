"""Tune Python's garbage collector for a fast start and steady work."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

_USUAL = gc.get_threshold()
_RARELY = 100_000


def collect_rarely() -> None:
    """For the start of a short program.

    Modules are made of many objects that live for ever; to look through them again and again takes a cold start 15 ms.
    """
    gc.set_threshold(_RARELY)


def collect_as_usual() -> None:
    """For the work of a program that may run for ever, so that its garbage does not pile up.

    What the start has made is left out from now on: it stays, and looking through it takes time from every frame.
    """
    gc.freeze()
    gc.set_threshold(*_USUAL)


@contextlib.contextmanager
def collecting_later() -> Iterator[None]:
    """Switch the garbage collector off for the block.

    TensorFlow makes millions of objects that live for ever; to look through them again and again while it is imported
    takes more than a second.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
