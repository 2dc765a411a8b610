"""Where the rows of ``edge-run`` go, and what happens when they cannot go there or the run is stopped."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn, TextIO, TypeVar

from edge_runtime.errors import OutputError
from edge_runtime.results import Result
from edge_runtime.sinks.base import Sink

ResultT = TypeVar("ResultT", bound=Result)
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
    from edge_runtime.atomic import atomic_file

    with (
        atomic_file(output, overwrite=overwrite) as temporary,
        temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as stream,
    ):
        yield stream


def write_each(results: Iterable[ResultT], sink: Sink) -> Iterator[ResultT]:
    """Write each result and then yield it for counting; raises what `write_errors` does."""
    for result in results:
        with write_errors():
            sink.write(result)
        yield result


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


@contextlib.contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """Let SIGTERM end the block as Ctrl-C does, so that what is open is closed and partial files are removed."""
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _forget_stdout() -> None:
    """Keep the interpreter from failing once more at exit over what is still buffered."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
