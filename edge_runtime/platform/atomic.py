"""Write files and directories atomically: a killed process leaves the old one or the new one.

The new content is built under a temporary name beside its destination and then renamed. Replacing a directory uses
``renameat2(RENAME_EXCHANGE)`` (Linux), which swaps two names in one step.
"""

from __future__ import annotations

import contextlib
import ctypes
import glob
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from edge_runtime.errors import OutputError

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_MOST_SYNCED_ALONE = 100


@contextlib.contextmanager
def atomic_file(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it to ``path`` unless the block raises.

    Raises:
        OutputError: ``path`` exists and ``overwrite`` is false, or its folder cannot be written.
    """
    check_free(path, overwrite=overwrite)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path)
        handle, name = tempfile.mkstemp(prefix=f"{_partial_prefix(path)}{os.getpid()}-", dir=path.parent)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror})") from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        _sync(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomic(path: Path, data: str | bytes, *, overwrite: bool = True) -> None:
    """Write a whole small file atomically."""
    with atomic_file(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)


@contextlib.contextmanager
def atomic_directory(path: Path, *, marker: str, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary directory beside ``path``; rename it to ``path`` unless the block raises.

    Args:
        path: Directory to create.
        marker: File that every directory of this kind contains. A directory without it is never replaced, so that
            ``--overwrite --out ~`` cannot delete a home folder.
        overwrite: True to replace an existing directory of this kind.

    Raises:
        OutputError: ``path`` exists and must not be replaced, or its parent cannot be written.
    """
    check_free(path, overwrite=overwrite, marker=marker)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path)
        temporary = Path(tempfile.mkdtemp(prefix=f"{_partial_prefix(path)}{os.getpid()}-", dir=path.parent))
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror})") from error
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        _sync_all([file for file in temporary.rglob("*") if file.is_file()])
        _publish(temporary, path)
    finally:
        # After an exchange this name holds the previous directory.
        shutil.rmtree(temporary, ignore_errors=True)


def check_free(path: Path, *, overwrite: bool, marker: str | None = None) -> None:
    """Raise OutputError if ``path`` exists and must not be replaced; call this before long work."""
    if not (path.exists() or path.is_symlink()):
        return
    if not overwrite:
        raise OutputError(f"{path}: already exists; choose another name or pass --overwrite")
    if marker is not None and not (path / marker).is_file():
        raise OutputError(f"{path}: holds no {marker}, so --overwrite will not replace it; choose another name")


def check_room(folder: Path, needed_bytes: int, margin_bytes: int, what: str) -> None:
    """Raise OutputError unless the disk of a cache folder has room for ``what`` and a margin."""
    free = shutil.disk_usage(folder).free - margin_bytes
    if needed_bytes > free:
        raise OutputError(
            f"{folder}: {what} needs {needed_bytes / 2**20:,.0f} MiB, and {max(free, 0) / 2**20:,.0f} MiB can be used; "
            "make room or set EDGEKIT_CACHE to a larger disk"
        )


def _partial_prefix(path: Path) -> str:
    # The host is part of the name because a process id means nothing to another machine on a shared disk.
    return f".{path.name}.partial-{platform.node()}-"


def _remove_abandoned(path: Path) -> None:
    """Remove leftovers of killed processes of this machine for the same destination."""
    prefix = _partial_prefix(path)
    for leftover in path.parent.glob(glob.escape(prefix) + "*"):
        pid = leftover.name.removeprefix(prefix).partition("-")[0]
        if pid.isdigit() and not _is_alive(int(pid)):
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _publish(temporary: Path, path: Path) -> None:
    if not path.exists():
        temporary.rename(path)
    elif not _exchange(temporary, path):
        previous = temporary.with_name(temporary.name + ".previous")
        path.rename(previous)
        temporary.rename(path)
        shutil.rmtree(previous, ignore_errors=True)


def _exchange(first: Path, second: Path) -> bool:
    """Swap two names in one step; False if the kernel or the C library cannot."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    result: int = renameat2(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE)
    return result == 0


def _sync_all(files: Sequence[Path]) -> None:
    if len(files) > _MOST_SYNCED_ALONE:
        # Syncing a hundred thousand files one by one on a slow disk would take minutes.
        os.sync()
        return
    for file in files:
        _sync(file)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
