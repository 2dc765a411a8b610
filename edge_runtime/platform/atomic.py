"""Write files and directories atomically: a killed process leaves the old one or the new one.

The new content is built under a temporary name beside its destination and then renamed, by ``renameat2`` where Linux
and the file system have it: ``RENAME_EXCHANGE`` swaps two directories in one step, and ``RENAME_NOREPLACE`` fails where
another process was faster. Temporary folders of killed processes are removed by the next process.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import glob
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from edge_runtime.errors import OutputError

_AT_FDCWD = -100
_RENAME_NOREPLACE, _RENAME_EXCHANGE = 1, 2
_MOST_SYNCED_ALONE = 100


@contextlib.contextmanager
def atomic_file(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it to ``path`` unless the block raises.

    Raises:
        OutputError: ``path`` exists, also only since the block began, and ``overwrite`` is false; or its folder cannot
            be written.
    """
    check_free(path, overwrite=overwrite)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path.parent, _partial_prefix(path))
        handle, name = tempfile.mkstemp(prefix=f"{_partial_prefix(path)}{_identity(os.getpid())}-", dir=path.parent)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror})") from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        _sync(temporary)
        if overwrite:
            temporary.replace(path)
        else:
            _rename_new(temporary, path)
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
        _remove_abandoned(path.parent, _partial_prefix(path))
        temporary = Path(tempfile.mkdtemp(prefix=f"{_partial_prefix(path)}{_identity(os.getpid())}-", dir=path.parent))
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror})") from error
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        _sync_all([file for file in temporary.rglob("*") if file.is_file()])
        if overwrite and path.exists():
            _replace_directory(temporary, path)
        else:
            _rename_new(temporary, path)
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


@contextlib.contextmanager
def temporary_folder(purpose: str) -> Iterator[Path]:
    """Yield an empty folder in the system's temporary directory, which is removed at the end.

    Args:
        purpose: Word in the folder's name, such as ``convert``.
    """
    prefix = f"edgekit-{platform.node()}-"
    _remove_abandoned(Path(tempfile.gettempdir()), prefix)
    with tempfile.TemporaryDirectory(prefix=f"{prefix}{_identity(os.getpid())}-{purpose}-") as folder:
        yield Path(folder)


def _remove_abandoned(folder: Path, prefix: str) -> None:
    """Remove this user's leftovers of killed processes of this machine: entries named by a prefix and an identity."""
    for leftover in folder.glob(glob.escape(prefix) + "*"):
        identity = leftover.name.removeprefix(prefix).partition("-")[0]
        pid = identity.partition(".")[0]
        with contextlib.suppress(OSError):  # another process is removing it
            if pid.isdigit() and not _is_alive(int(pid), identity) and leftover.lstat().st_uid == os.getuid():
                if leftover.is_dir() and not leftover.is_symlink():
                    shutil.rmtree(leftover, ignore_errors=True)
                else:
                    leftover.unlink()


def _identity(pid: int) -> str:
    """Identify a process of this machine: its ID and, since IDs are used again, its start in ticks after the boot."""
    try:
        # Field 22 of proc_pid_stat(5); the name before it may hold blanks and parentheses.
        start = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19].decode()
    except (OSError, IndexError):
        return str(pid)
    return f"{pid}.{start}"


def _is_alive(pid: int, identity: str) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    # Without a start, it was written by an older edgekit or where /proc is not mounted.
    return "." not in identity or _identity(pid) in (identity, str(pid))


def _replace_directory(temporary: Path, path: Path) -> None:
    if _renameat2(temporary, path, _RENAME_EXCHANGE) != 0:
        previous = temporary.with_name(temporary.name + ".previous")
        path.rename(previous)
        temporary.rename(path)
        shutil.rmtree(previous, ignore_errors=True)


def _rename_new(temporary: Path, path: Path) -> None:
    """Rename, unless another process has made ``path`` meanwhile."""
    error = _renameat2(temporary, path, _RENAME_NOREPLACE)
    if error == errno.EEXIST or (error and (path.exists() or path.is_symlink())):
        raise OutputError(f"{path}: was made by another process meanwhile; choose another name or pass --overwrite")
    if error:  # no such system call, or a file system without it
        temporary.rename(path)


def _renameat2(source: Path, destination: Path, flags: int) -> int:
    """Rename with flags (renameat2(2)): 0, or the error number; ENOSYS where the C library has no such function."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return errno.ENOSYS
    failed = renameat2(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(destination), flags)
    return ctypes.get_errno() if failed else 0


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
