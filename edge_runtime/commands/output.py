"""Output of ``edge-run``: destination of the rows, write errors and interrupts."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import TextIO

from edge_runtime.errors import OutputError

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_FORMATS_BY_SUFFIX = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}


def choose_format(asked: str | None, output: Path | None, default: str) -> str:
    """The format that was asked for, else the one that the output's name says, else the default."""
    by_suffix = _FORMATS_BY_SUFFIX.get(output.suffix.lower()) if output else None
    return asked or by_suffix or default


@contextlib.contextmanager
def output_stream(output: Path | None, *, overwrite: bool, for_programs: bool) -> Iterator[TextIO]:
    """Standard output, or a file that appears under its name when the block has ended well.

    Args:
        output: The file, or None.
        overwrite: Whether an existing file is replaced.
        for_programs: JSONL and CSV are UTF-8 whatever the terminal's encoding.

    Raises:
        OutputError: The file exists already or cannot be written.
    """
    if output is None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8" if for_programs else None, errors="backslashreplace")
        yield sys.stdout
        return
    from edge_runtime.platform.atomic import atomic_file

    with (
        atomic_file(output, overwrite=overwrite) as temporary,
        temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as stream,
    ):
        yield stream


@contextlib.contextmanager
def write_errors() -> Iterator[None]:
    """Around writing rows or their header.

    Raises:
        OutputError: The place cannot be written, for example a full disk.
        BrokenPipeError: The reader has gone, which is no error.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        _forget_stdout()
        raise OutputError(f"results cannot be written ({error.strerror}); free some space and run again") from error


class Interrupts:
    """Turns Ctrl-C and SIGTERM into KeyboardInterrupt, but not in the middle of a row.

    An exception out of a half-done write would leave half a line. So the first signal waits for the end of a `held`
    block; the second does not, since a write lasts for ever where the reader has stopped reading.

    Args:
        stop: Called for the first signal, to end what the run waits for; it says whether the run will now end by
            itself, and well, so that nothing is raised. It is called from a signal handler: it must not wait.
    """

    def __init__(self, stop: Callable[[], bool] | None = None) -> None:
        self._holding = self._waiting = False
        self._stop = stop
        self.stopped = False
        """Whether the run ends by itself because of a signal."""

    def __enter__(self) -> Interrupts:
        self._previous = [(number, signal.signal(number, self._on_signal)) for number in _STOP_SIGNALS]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, previous in self._previous:
            signal.signal(number, previous)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Let a first signal wait until the block has ended."""
        self._holding = True
        try:
            yield
        finally:
            self._holding = False
        if self._waiting:
            raise KeyboardInterrupt

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        stop, self._stop = self._stop, None
        if stop and stop():
            self.stopped = True
        elif self._holding and not self._waiting:
            self._waiting = True
        else:
            raise KeyboardInterrupt


def _forget_stdout() -> None:
    """Keep the interpreter from failing once more at exit over what is still buffered."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
