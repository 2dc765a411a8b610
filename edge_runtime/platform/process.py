"""Settings of this process: cores, cache folder, garbage collector and native standard error."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

KEEP_VARIABLE = "EDGEKIT_NATIVE_STDERR"
_STDERR_FD = 2
_USUAL = gc.get_threshold()
_RARELY = 100_000


def core_count() -> int:
    """Count the cores that this process may use, at least 1."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cache_folder() -> Path:
    """Return ``$EDGEKIT_CACHE``, else ``edgekit`` in the user's cache folder (XDG); its content may be removed."""
    if "EDGEKIT_CACHE" in os.environ:
        return Path(os.environ["EDGEKIT_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgekit"


def collect_rarely() -> None:
    """Collect garbage rarely, for the start of a program.

    Imports make many objects that live for ever; to scan them again and again adds 15 ms to a cold start.
    """
    gc.set_threshold(_RARELY)


def collect_as_usual() -> None:
    """Collect garbage as usual, for the work of a program that may run for ever.

    The objects of the start are left out from now on: they stay, and scanning them takes time from every frame.
    """
    gc.freeze()
    gc.set_threshold(*_USUAL)


@contextlib.contextmanager
def collecting_later() -> Iterator[None]:
    """Switch the garbage collector off for the block.

    TensorFlow makes millions of objects that live for ever; to scan them again and again during its import takes more
    than a second.
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
    """Send file descriptor 2 to /dev/null and ``sys.stderr`` to its former target, for the length of the block.

    LiteRT prints a line for each XNNPACK delegate, and has no setting against it: the severity threshold is a constant
    of the build, and ``TF_CPP_MIN_LOG_LEVEL`` does not reach it. libjpeg and libpng warn about images without naming
    them.

    Does nothing if the environment variable EDGEKIT_NATIVE_STDERR is set (to look for a crash in a library), or if
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
