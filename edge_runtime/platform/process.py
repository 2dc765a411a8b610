"""Settings of this process: cache folder, cores, garbage collection, and the standard error of native libraries.

Imported at every start, so it loads nothing heavy.
"""

from __future__ import annotations

import contextlib
import gc
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path

KEEP_VARIABLE = "EDGEKIT_NATIVE_STDERR"
_STDERR_FD = 2
_USUAL_THRESHOLD = gc.get_threshold()
_START_THRESHOLD = 100_000


def cache_folder() -> Path:
    """Return ``$EDGEKIT_CACHE``, else ``edgekit`` in the user's cache folder (XDG); its contents may be removed."""
    if "EDGEKIT_CACHE" in os.environ:
        return Path(os.environ["EDGEKIT_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgekit"


def core_count() -> int:
    """Return the number of cores that this process may use, at least 1."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def collect_rarely() -> None:
    """Collect garbage rarely during start-up: scanning the objects of imported modules would take 15 ms."""
    gc.set_threshold(_START_THRESHOLD)


def collect_as_usual() -> None:
    """Collect garbage as usual after start-up, so that a program may run for months.

    Objects made so far are excluded from now on: they stay, and scanning them would delay frames.
    """
    gc.freeze()
    gc.set_threshold(*_USUAL_THRESHOLD)


def open_standard_streams() -> None:
    """Open the standard streams that the caller has closed (``>&-``), so that no other file takes their numbers.

    Reading finds the end; writing results fails, and messages are lost. What the terminal's encoding lacks is escaped.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (_STDERR_FD, "stderr", "w")):
        if getattr(sys, name) is None:
            # Standard output can be opened but not written, because lost results must be an error.
            flags = os.O_RDONLY if name == "stdout" else os.O_RDWR
            with contextlib.suppress(OSError):
                handle = os.open(os.devnull, flags)
                if handle != number:  # something opened the number since
                    os.dup2(handle, number)
                    os.close(handle)
                setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))
        stream = getattr(sys, name)
        if number and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def collecting_later() -> Iterator[None]:
    """Switch the garbage collector off for the block.

    TensorFlow creates millions of permanent objects; scanning them during its import takes more than a second.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@contextlib.contextmanager
def silence_native_stderr() -> Iterator[None]:
    """Discard what native libraries write to standard error during the block; ``sys.stderr`` keeps working.

    LiteRT announces each XNNPACK delegate, and no setting prevents that: the severity threshold is a constant of the
    build, and ``TF_CPP_MIN_LOG_LEVEL`` does not reach it. libjpeg and libpng warn about images without naming them.

    Does nothing when the environment variable EDGEKIT_NATIVE_STDERR is set (to find a crash in a library), or when
    ``sys.stderr`` is not file descriptor 2 (a test, a notebook). The descriptor belongs to the process: for use in
    command lines, not in a library.
    """
    if os.environ.get(KEEP_VARIABLE) or not _is_descriptor_2():
        yield
        return
    previous = sys.stderr
    previous.flush()
    visible = os.dup(_STDERR_FD)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, _STDERR_FD)
    os.close(nowhere)
    sys.stderr = os.fdopen(visible, "w", buffering=1, encoding=previous.encoding, errors="backslashreplace")
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(visible, _STDERR_FD)
        sys.stderr.close()
        sys.stderr = previous


def _is_descriptor_2() -> bool:
    try:
        return sys.stderr.fileno() == _STDERR_FD
    except (AttributeError, OSError, ValueError):
        return False
