"""For programs that import a large library."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


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
