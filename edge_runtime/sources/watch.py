"""Watched folders: each new image file as soon as it is written completely.

The kernel tells when a file is complete, in two ways. inotify, through the ``watchdog`` library, announces a file that
was closed after writing or moved in. For a file found by a scan (at the start, in a new folder, after lost events) a
lease is requested, which the kernel refuses while the file is open for writing; where there are no leases (network
drives, files of other users), the file must stay unchanged for `SETTLE_S` seconds.

Regular scans find what inotify misses: its queue overflows, it limits the number of folders, and it does not see what
another machine writes to a network drive.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import signal
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Protocol, TypeAlias

from edge_runtime.errors import SourceError, UsageError
from edge_runtime.image_files import is_image_or_raw_name
from edge_runtime.results import Failed
from edge_runtime.sources.images import NameSet, walk


class Observer(Protocol):
    """Methods of a watchdog observer in use."""

    def stop(self) -> None: ...  # noqa: D102

    def join(self, timeout: float | None = None) -> None: ...  # noqa: D102


def open_observer(folders: Sequence[Path], on_arrival: Callable[[Path], None]) -> Observer:
    """Start threads that call ``on_arrival`` for each file that was closed after writing or moved in.

    It is called for new folders too: files may have been there before the folder was watched.

    Args:
        folders: Folders to watch, with all below.
        on_arrival: Function called from another thread, with paths that begin with one of the folders.

    Raises:
        MissingExtraError: watchdog is not installed.
        OSError: A limit of the system is reached.
    """
    from edge_runtime.cli_support import require_extra

    require_extra("edge-run classify --watch", "watch", "watchdog")
    from watchdog import events, observers

    class Handler(events.FileSystemEventHandler):  # type: ignore[misc]  # its types are not followed
        def on_any_event(self, event: events.FileSystemEvent) -> None:
            # What is moved out of the folders has no destination.
            path = event.dest_path if event.event_type == events.EVENT_TYPE_MOVED else event.src_path
            if path:
                on_arrival(Path(os.fsdecode(path)))

    # Scans find lost events; watchdog would log them among the rows.
    logging.getLogger("watchdog").addHandler(logging.NullHandler())
    logging.getLogger("watchdog").propagate = False
    # Not FileCreatedEvent: a new file is empty. Full events distinguish it from a file that was moved in. Without the
    # filter each image that is read would be an event too.
    wanted = [events.FileClosedEvent, events.FileMovedEvent, events.DirCreatedEvent, events.DirMovedEvent]
    observer = observers.Observer(generate_full_events=True)
    try:
        for folder in folders:
            observer.schedule(Handler(), str(folder), recursive=True, event_filter=wanted)
        observer.start()
    except OSError:
        observer.stop()
        raise
    opened: Observer = observer
    return opened


def observer_failure(error: OSError) -> str:
    """Explain, as a clause, why there is no observer and what helps."""
    if error.errno == errno.ENOSPC:
        return "the limit on watched folders is reached (sysctl fs.inotify.max_user_watches raises it)"
    if error.errno == errno.EMFILE:
        return "the limit on watchers is reached (sysctl fs.inotify.max_user_instances raises it)"
    return f"the system cannot announce them ({error.strerror})"


Signature: TypeAlias = "tuple[int, int, int]"
"""Inode, size in bytes, and modification time in nanoseconds."""


def is_being_written(path: Path) -> bool | None:
    """Tell whether any process has a file open for writing; None if the kernel cannot tell.

    A read lease (fcntl(2), F_SETLEASE) is granted only while the file is not open for writing, to the owner of a file
    on a local disk. It is released at once; a process that opens the file in between waits for that, and the lease's
    signal is one that is ignored by default.
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
    """Return the signature of a file, following links; None if it is no regular file."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return (status.st_ino, status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else None


SETTLE_S = 5.0
"""Seconds that a file must stay unchanged where the kernel cannot tell whether it is being written."""
SCAN_EVERY_S = 30.0
POLL_EVERY_S = 2.0
"""Seconds between scans of the folders, with inotify and without; more where a scan itself takes long."""
MAX_WAITING = 100_000
"""Limit on queued events; further ones are dropped and the folders are scanned."""

_TICK_S = 0.5
# Share of the time that scans may take: a walk over a million files takes seconds.
_SCAN_SHARE = 0.02
_MAX_REMEMBERED = 1 << 14


class FolderWatch:
    """Images in folders and all below them, then each new one until the watch is closed.

    Hidden files and folders, links to folders and names without the suffix of an image are left out, which excludes
    the temporary names of download and copy programs. A rewritten file is yielded again; an empty file is ignored.
    Iterate once, from one thread at a time.

    Args:
        folders: Folders to watch.
        only_new: True to leave out images that exist at the start.
        observe: Function that starts an observer of completed files.

    Raises:
        UsageError: A path is not a folder.
        MissingExtraError: watchdog is not installed.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        *,
        only_new: bool = False,
        observe: Callable[[Sequence[Path], Callable[[Path], None]], Observer] = open_observer,
    ) -> None:
        for folder in folders:
            if not folder.is_dir():
                raise UsageError(f"{folder}: expected a folder to watch; files, patterns and lists cannot be watched")
        self._folders, self._only_new = tuple(folders), only_new
        # None ends the iteration. SimpleQueue.put is safe in a signal handler.
        self._events: SimpleQueue[Path | None] = SimpleQueue()
        self._closed = self._lost = False
        self._known = NameSet()
        self._given: dict[Path, Signature] = {}
        self._candidates: dict[Path, tuple[Signature, float]] = {}
        self.problem: str | None = None
        """Reason why folders are scanned every few seconds; None while inotify works."""
        self._observer: Observer | None = None
        try:
            self._observer = observe(self._folders, self._on_arrival)
        except OSError as error:
            self.problem = f"folders are scanned every {POLL_EVERY_S:g} s, because {observer_failure(error)}"

    def __iter__(self) -> Iterator[Path | Failed]:
        """Yield images once they are complete, and a `Failed` for a folder that is unreadable at the start.

        Raises:
            SourceError: A watched folder has disappeared.
        """
        scanned_s = tried_s = time.monotonic()
        took_s = 0.0
        yield from self._scan(self._folders, first=True)
        while not self._closed:
            pause_s = max(POLL_EVERY_S if self.problem else SCAN_EVERY_S, took_s / _SCAN_SHARE)
            if (self._lost and self._events.empty()) or time.monotonic() >= scanned_s + pause_s:
                self._lost, scanned_s = False, time.monotonic()
                for item in self._scan(self._folders):
                    given_s = time.monotonic()
                    yield item
                    scanned_s += time.monotonic() - given_s
                took_s = time.monotonic() - scanned_s
            try:
                path = self._events.get(timeout=_TICK_S if self._candidates else POLL_EVERY_S)
            except Empty:
                self._check_folders()
            else:
                yield from self._arrived(path)
            if self._candidates and time.monotonic() >= tried_s + _TICK_S:
                tried_s = time.monotonic()
                yield from [path for path in list(self._candidates) if self._take(path)]

    def close(self) -> None:
        """End the iteration, also one that waits; callable from any thread and signal handler, repeatedly."""
        self._closed = True
        self._events.put(None)

    def stop(self) -> None:
        """Close, and end the observer's threads."""
        self.close()
        observer, self._observer = self._observer, None
        if observer is not None:
            observer.stop()
            observer.join(2.0)

    def _on_arrival(self, path: Path) -> None:
        if self._events.qsize() < MAX_WAITING:
            self._events.put(path)
        else:
            self._lost = True

    def _arrived(self, path: Path | None) -> Iterator[Path | Failed]:
        if path is None or self._closed:
            return
        if path.is_dir():
            if not path.is_symlink() and self._is_ours(path):
                yield from self._scan([path])
        elif is_image_or_raw_name(path) and self._is_ours(path) and self._take(path, whole=True):
            yield path

    def _scan(self, folders: Sequence[Path], *, first: bool = False) -> Iterator[Path | Failed]:
        for folder in folders:
            for item in walk(folder):
                if self._closed:
                    return
                if isinstance(item, Failed):
                    if first:
                        yield item
                elif first and self._only_new:
                    self._known.add(str(item))
                elif self._take(item):
                    yield item

    def _take(self, path: Path, *, whole: bool = False) -> bool:
        """Tell whether to yield a file now: it is complete, not empty, and was not yielded in this version."""
        signature, given = signature_of(path), self._given.get(path)
        if (
            signature is None
            or not signature[1]
            or signature == given
            or (not whole and given is None and str(path) in self._known)
        ):
            self._candidates.pop(path, None)
            return False
        if not whole and not self._has_settled(path, signature):
            return False
        self._candidates.pop(path, None)
        self._known.add(str(path))
        self._remember(path, signature)
        return True

    def _has_settled(self, path: Path, signature: Signature) -> bool:
        being_written = is_being_written(path)
        if being_written is False:
            return True
        seen, since_s = self._candidates.get(path, (None, 0.0))
        now_s = time.monotonic()
        if seen != signature:
            since_s = now_s
        self._candidates[path] = (signature, since_s)
        return being_written is None and now_s - since_s >= SETTLE_S

    def _remember(self, path: Path, signature: Signature) -> None:
        """Keep the signatures of the latest files, to distinguish a rewritten file from a repeated event."""
        self._given.pop(path, None)
        self._given[path] = signature
        if len(self._given) > _MAX_REMEMBERED:
            del self._given[next(iter(self._given))]

    def _is_ours(self, path: Path) -> bool:
        """Tell whether neither the path nor a folder between it and a watched one is hidden."""
        inside = (path.relative_to(folder).parts for folder in self._folders if path.is_relative_to(folder))
        return any(not any(part.startswith(".") for part in parts) for parts in inside)

    def _check_folders(self) -> None:
        for folder in self._folders:
            if not folder.is_dir():
                raise SourceError(f"{folder}: is no longer there; make or mount it and start again")
