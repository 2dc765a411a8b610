"""Whether a file is whole, and what it was like."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
from pathlib import Path
from typing import TypeAlias

Signature: TypeAlias = "tuple[int, int, int]"
"""Inode, size in bytes, and time of the last change of the content in nanoseconds."""


def is_being_written(path: Path) -> bool | None:
    """Whether some process has a file open for writing; None where the kernel cannot say.

    A read lease is granted only while nobody has (fcntl(2), F_SETLEASE), to the owner of a file on a local disk. It is
    given back at once; who opens the file in between waits for that, and the signal about it is one that is ignored.
    """
    if not hasattr(fcntl, "F_SETLEASE"):
        return None
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.fcntl(handle, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        return True if error.errno == errno.EAGAIN else None
    finally:
        os.close(handle)
    return False


def signature_of(path: Path) -> Signature | None:
    """What a file is like, links followed; None for what is no file."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return (status.st_ino, status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else None
