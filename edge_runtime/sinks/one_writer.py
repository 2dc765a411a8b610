"""One writer at a time to a file or folder, told by a lock that ends with its process, however that ends."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

from edge_runtime.errors import OutputError

_HELD_BY_ANOTHER = (errno.EAGAIN, errno.EACCES)


class OneWriter:
    """Holds ``flock`` on an empty hidden file beside the output, which is left behind: removing it would be a race.

    Not the output itself is locked, because it is renamed when it is rotated, and between two names a second writer
    could come in.

    Args:
        path: The lock file; its folder exists.
        output: What is being written, for messages.

    Raises:
        OutputError: Another program, or another sink of this one, is writing there.
        OSError: The lock file cannot be made.
    """

    def __init__(self, path: Path, output: Path) -> None:
        self._path = path
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        self._handle = os.open(path, flags, 0o644)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.close()
            if error.errno in _HELD_BY_ANOTHER:
                raise OutputError(
                    f"{output}: another edge-run is writing there; stop that one or choose another name"
                ) from error
            raise

    @property
    def holds(self) -> bool:
        """Whether the lock file is still the one that was locked; a removed or remounted folder has another."""
        return self._handle >= 0 and is_same_file(self._path, self._handle)

    def close(self) -> None:
        """Let others write; calling it again does nothing."""
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)


def is_same_file(path: Path, handle: int) -> bool:
    """Whether a path still leads to the file or folder that is open."""
    try:
        found = path.lstat()
    except OSError:
        return False
    opened = os.fstat(handle)
    return (found.st_dev, found.st_ino) == (opened.st_dev, opened.st_ino)
