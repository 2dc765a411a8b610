"""What every sink looks like to the rest of the package."""

from __future__ import annotations

from typing import Protocol

from edge_runtime.results import Result


class Sink(Protocol):
    """Takes results one by one and passes each on at once, so that a reader at a pipe's other end sees it."""

    def write(self, result: Result) -> None:
        """Pass one result on.

        Raises:
            BrokenPipeError: Nobody reads any more.
            OSError: The place cannot be written, for example a full disk.
        """
        ...
