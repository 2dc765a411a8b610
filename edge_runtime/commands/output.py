"""Output of ``edge-run``: format and destination of the rows, write errors and interrupts."""

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


def choose_format(wanted: str | None, output: Path | None, default: str) -> str:
    """Choose the format of rows: the wanted one, else by the suffix of the output file, else the default."""
    by_suffix = _FORMATS_BY_SUFFIX.get(output.suffix.lower()) if output else None
    return wanted or by_suffix or default


@contextlib.contextmanager
def output_stream(output: Path | None, *, overwrite: bool, for_programs: bool) -> Iterator[TextIO]:
    """Open standard output, or a file that appears under its name when the block has ended without an error.

    Args:
        output: Path of the file, or None for standard output.
        overwrite: True to replace an existing file.
        for_programs: True to write UTF-8 whatever the terminal's encoding, for JSONL and CSV.

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
    """Turn errors of writing rows or their header into OutputError.

    Raises:
        OutputError: The output cannot be written, for example because the disk is full.
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

    An exception during a write would leave half a line. So the first signal waits for the end of a `held` block; the
    second does not, since a write blocks for ever if the reader has stopped reading.

    Args:
        stop: Called at the first signal to end whatever the run waits for. It returns True if the run now ends
            normally by itself, so that nothing is raised. It runs in a signal handler and must not block.

    Attributes:
        stopped: True if the run ends by itself because of a signal.
    """

    def __init__(self, stop: Callable[[], bool] | None = None) -> None:
        self._holding = self._waiting = False
        self._stop = stop
        self.stopped = False

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
        """Delay a first signal until the block has ended."""
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
    """Redirect standard output to /dev/null, so that flushing its buffer at exit does not fail again."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
