"""Silence C and C++ libraries that write to standard error.

LiteRT announces each XNNPACK delegate, and has no setting against it: the severity threshold is a constant of the
build, and ``TF_CPP_MIN_LOG_LEVEL`` does not reach it. libjpeg and libpng warn about images without naming them.

LiteRT announces each XNNPACK delegate, and has no setting against it: the severity threshold is a constant of the
build, and ``TF_CPP_MIN_LOG_LEVEL`` does not reach it. libjpeg and libpng warn about images without naming them.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

KEEP_VARIABLE = "EDGEKIT_NATIVE_STDERR"
_STDERR_FD = 2


@contextlib.contextmanager
def silence_native_stderr() -> Iterator[None]:
    """Send file descriptor 2 nowhere and ``sys.stderr`` to where it went, for the length of the block.

    Does nothing when the environment variable EDGEKIT_NATIVE_STDERR is set (to look for a crash in a library), or when
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
