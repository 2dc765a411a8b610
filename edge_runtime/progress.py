"""How long work shows that it goes on: the caller hands in a way to open a progress bar, or nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
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
