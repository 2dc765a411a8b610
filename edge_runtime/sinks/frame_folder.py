"""Save JPEG images in labelled folders within a disk quota, each with its JSON record as a comment segment.

Source: ITU-T T.81, annex B (marker segments), and the JFIF specification, whose APP0 segment comes first.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import stat
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_runtime.errors import OutputError
from edge_runtime.sinks.files import WriterLock, is_same_file
from edge_runtime.sinks.rows import json_line
from edge_runtime.text import format_bytes

MAX_COMMENT_BYTES = 65_533  # of one segment
HEAD_BYTES = 2 * 65_536  # comments of `add_comment` are within these
LOCK_FILE = ".edge-run.lock"
_START, _COMMENT, _APP0 = b"\xff\xd8", 0xFE, 0xE0
_BEFORE_PIXELS = {_COMMENT, *range(_APP0, _APP0 + 16)}
_STEM = r"[0-9]{8}T[0-9]{6}\.[0-9]{3}Z-[0-9]{6,12}"
_IMAGE_NAME = re.compile(rf"{_STEM}(-[0-9]{{1,3}})?\.jpg", re.ASCII)
_PARTIAL = re.compile(rf"\.{_STEM}(-[0-9]{{1,3}})?\.jpg\.partial", re.ASCII)
_MAX_SAME_NAMES = 999
_MAX_REMOVED_FOR_FREE_DISK = 64
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)  # removed, or replaced by a link
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def add_comment(jpeg: bytes, record: Mapping[str, Any]) -> bytes:
    """Insert a record into a JPEG file as a comment; ``top`` is left out of a record that is too long.

    Raises:
        ValueError: The data is no JPEG file, or the record is too long even without ``top``.
    """
    if not jpeg.startswith(_START):
        raise ValueError("expected a JPEG file")
    comment = json_line(record).encode("utf-8", errors="backslashreplace")
    if len(comment) > MAX_COMMENT_BYTES:
        comment = json_line({name: value for name, value in record.items() if name != "top"}).encode()
    if len(comment) > MAX_COMMENT_BYTES:
        raise ValueError(f"expected a comment of at most {MAX_COMMENT_BYTES} bytes, got {len(comment)}")
    first = next(_segments(jpeg), None)
    at = first[1] + first[2] if first and first[0] == _APP0 else len(_START)
    return b"".join((jpeg[:at], bytes((0xFF, _COMMENT)), (len(comment) + 2).to_bytes(2, "big"), comment, jpeg[at:]))


def read_comment(head: bytes) -> dict[str, Any] | None:
    """Read the record from a JPEG file's comments; None if there is none.

    Args:
        head: First `HEAD_BYTES` of the file or more, or the whole file.
    """
    for marker, start, length in _segments(head):
        if marker == _COMMENT:
            try:
                record = json.loads(head[start : start + length])
            except (ValueError, RecursionError):
                continue
            if isinstance(record, dict):
                return record
    return None


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, payload start and payload length of each complete segment before an image's tables."""
    offset = len(_START) if data.startswith(_START) else len(data)
    while offset + 4 <= len(data) and data[offset] == 0xFF and data[offset + 1] in _BEFORE_PIXELS:
        length = int.from_bytes(data[offset + 2 : offset + 4], "big")
        if length < 2 or offset + 2 + length > len(data):
            return
        yield data[offset + 1], offset + 4, length - 2
        offset += 2 + length


def free_bytes(folder_handle: int) -> int:
    """Return the bytes that this user may still write to the disk of an open folder."""
    disk = os.fstatvfs(folder_handle)
    return disk.f_bavail * disk.f_frsize


@dataclass(frozen=True)
class _Saved:
    folder: str
    name: str
    bytes: int


class FrameFolder:
    """A folder of images ``ROOT/<folder>/<name>.jpg``, each written completely or not at all, within a quota.

    The oldest images are removed for new ones, but only a regular file whose name has the form that `save` writes and
    whose comment names its folder: an image that a person has moved to another folder is never removed and does not
    count. Links are never followed. Not thread-safe.

    Args:
        root: Folder to save into; it is made if missing.
        quota_bytes: Largest total size of saved images, including those of earlier runs.
        min_free_bytes: Disk space to leave free. If other programs fill the disk, saved images are removed, at most
            64 for each new one.
        free_bytes: Function that gives the free bytes of the disk of an open folder.

    Raises:
        OutputError: The folder cannot be written, or another program saves into it.
    """

    def __init__(
        self, root: Path, *, quota_bytes: int, min_free_bytes: int, free_bytes: Callable[[int], int] = free_bytes
    ) -> None:
        self._root, self._free_bytes = Path(os.path.realpath(root)), free_bytes
        self._quota_bytes, self._min_free_bytes = quota_bytes, min_free_bytes
        self._handle = -1
        self._lock: WriterLock | None = None
        self._saved: deque[_Saved] = deque()
        self.total_bytes = 0
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            self._open()
        except OSError as error:
            self.close()
            raise OutputError(
                f"{root}: images cannot be saved there ({error.strerror}); choose another folder"
            ) from error

    def save(self, folder: str, stem: str, data: bytes) -> Path:
        """Write one image.

        Args:
            folder: Name of a folder inside the root; see `edge_runtime.sinks.save_frames.folder_name`.
            stem: File name without suffix, ``<UTC time>-<frame>``; a number is added if an image has that name.
            data: JPEG file whose comment has the key ``folder``.

        Returns:
            Path of the image.

        Raises:
            ValueError: A name leads outside the root, or has another form.
            OSError: The image does not fit, or cannot be written.
        """
        if folder in ("", ".", "..") or "/" in folder or not _IMAGE_NAME.fullmatch(f"{stem}.jpg"):
            raise ValueError(f"expected names of a folder and an image, got {folder!r} and {stem!r}")
        if self._handle < 0 or not is_same_file(self._root, self._handle):
            self._open()
        self._make_room(len(data))
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o755, dir_fd=self._handle)
        try:
            with self._folder(folder) as handle:
                name = _free_name(handle, stem)
                _write_whole(handle, name, data)
        except BaseException:
            # An empty folder would count as a class without images.
            self._remove_if_empty(folder)
            raise
        self._saved.append(_Saved(folder, name, len(data)))
        self.total_bytes += len(data)
        return self._root / folder / name

    def close(self) -> None:
        """Release the folder; calling it again does nothing."""
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)
        lock, self._lock = self._lock, None
        if lock:
            lock.close()

    def _open(self) -> None:
        """Open, lock and list the root; also after it has been replaced, for example by a mount."""
        self.close()
        self._lock = WriterLock(self._root / LOCK_FILE, self._root)
        self._handle = os.open(self._root, _FOLDER_FLAGS)
        found = sorted(self._find(), key=lambda saved: saved.name)
        self._saved = deque(found)
        self.total_bytes = sum(saved.bytes for saved in found)

    def _find(self) -> Iterator[_Saved]:
        with os.scandir(self._handle) as entries:
            folders = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        for folder in folders:
            if folder.startswith("."):
                continue
            with contextlib.suppress(OSError), self._folder(folder) as handle, os.scandir(handle) as files:
                for file in files:
                    if _PARTIAL.fullmatch(file.name):
                        # Left by a killed process: the lock excludes a running one.
                        os.unlink(file.name, dir_fd=handle)
                    elif _IMAGE_NAME.fullmatch(file.name) and file.is_file(follow_symlinks=False):
                        yield _Saved(folder, file.name, file.stat(follow_symlinks=False).st_size)

    def _make_room(self, count: int) -> None:
        if count > self._quota_bytes:
            raise OSError(errno.EFBIG, f"an image of {format_bytes(count)} is larger than the quota")
        while self.total_bytes + count > self._quota_bytes and self._saved:
            self._remove_oldest()
        for _ in range(_MAX_REMOVED_FOR_FREE_DISK):
            if self._free_bytes(self._handle) - count >= self._min_free_bytes:
                return
            if not self._saved:
                break
            self._remove_oldest()
        if self._free_bytes(self._handle) - count < self._min_free_bytes:
            raise OSError(errno.ENOSPC, f"less than {format_bytes(self._min_free_bytes)} of disk would be left free")

    def _remove_oldest(self) -> None:
        oldest = self._saved.popleft()
        self.total_bytes -= oldest.bytes
        try:
            with self._folder(oldest.folder) as handle:
                if not _is_removable(handle, oldest):
                    return
                os.unlink(oldest.name, dir_fd=handle)
        except OSError as error:
            if error.errno in _GONE:
                return
            raise
        self._remove_if_empty(oldest.folder)

    def _remove_if_empty(self, folder: str) -> None:
        with contextlib.suppress(OSError):
            os.rmdir(folder, dir_fd=self._handle)

    @contextlib.contextmanager
    def _folder(self, name: str) -> Iterator[int]:
        handle = os.open(name, _FOLDER_FLAGS, dir_fd=self._handle)
        try:
            yield handle
        finally:
            os.close(handle)


def _is_removable(folder_handle: int, saved: _Saved) -> bool:
    handle = os.open(saved.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder_handle)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            return False
        comment = read_comment(os.pread(handle, HEAD_BYTES, 0))
    finally:
        os.close(handle)
    return comment is not None and comment.get("folder") == saved.folder


def _free_name(folder_handle: int, stem: str) -> str:
    for number in range(1, _MAX_SAME_NAMES + 1):
        name = f"{stem}.jpg" if number == 1 else f"{stem}-{number}.jpg"
        try:
            os.stat(name, dir_fd=folder_handle, follow_symlinks=False)
        except FileNotFoundError:
            return name
    raise OSError(errno.EEXIST, f"{_MAX_SAME_NAMES} images have the name {stem}")


def _write_whole(folder_handle: int, name: str, data: bytes) -> None:
    """Write under a hidden name, sync to disk, and rename."""
    partial = f".{name}.partial"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(partial, flags, 0o644, dir_fd=folder_handle)
    try:
        try:
            written = 0
            while written < len(data):
                written += os.write(handle, data[written:])
            os.fsync(handle)
        finally:
            os.close(handle)
        os.rename(partial, name, src_dir_fd=folder_handle, dst_dir_fd=folder_handle)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(partial, dir_fd=folder_handle)
        raise
