"""Open files that others name: a named pipe or device in their place would block for ever or never end."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

_INHERITED = ("/dev/fd/", "/dev/stdin", "/proc/")


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading, or a pipe that the shell made (``<(...)``, ``/dev/stdin``).

    Raises:
        OSError: It cannot be opened, or is something else; ``strerror`` says what.
    """
    kind = irregularity(path)
    if kind:
        raise OSError(errno.EISDIR if kind == "a folder" else errno.EINVAL, f"expected a file, got {kind}", str(path))
    return path.open("rb")


def irregularity(path: Path | str) -> str | None:
    """Name what a path leads to if it is no regular file: a folder, named pipe, socket or device.

    Raises:
        OSError: There is nothing, or it cannot be examined.
    """
    mode = os.stat(path).st_mode  # noqa: PTH116  also for text
    if stat.S_ISREG(mode):
        return None
    if stat.S_ISDIR(mode):
        return "a folder"
    if stat.S_ISFIFO(mode):
        return None if str(path).startswith(_INHERITED) else "a named pipe"
    return "a socket" if stat.S_ISSOCK(mode) else "a device"
