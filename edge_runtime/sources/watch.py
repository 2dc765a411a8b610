"""Watched folders: each new image file as soon as it is written completely.

Whether a file is whole is asked of the kernel, in two ways. A file that was closed after writing or moved in is
announced by inotify, through the ``watchdog`` library. For a file that was found by looking (at the start, in a folder
that is new, after events were lost) a lease is tried, which the kernel refuses while anybody has the file open for
writing; where there are no leases (network drives, files of somebody else), it must stay unchanged for
`SETTLE_S` seconds.

Looking again now and then finds whatever inotify did not tell: its queue overflows, it has a limit on folders, and it
sees nothing of what another machine writes to a network drive.
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
    """The part of a watchdog observer that is used."""

    def stop(self) -> None: ...  # noqa: D102

    def join(self, timeout: float | None = None) -> None: ...  # noqa: D102


def open_observer(folders: Sequence[Path], on_arrival: Callable[[Path], None]) -> Observer:
    """Start threads that call ``on_arrival`` for each file that was closed after writing, and each that moved in.

    It is called for new folders too, since what they hold may have been there before they were watched.

    Args:
        folders: What to watch, and all below.
        on_arrival: Called from another thread, with paths that begin with one of the folders.

    Raises:
        MissingExtraError: watchdog is not installed.
        OSError: A limit of the system is reached.
    """
    from edge_runtime.cli_support import require_extra

    require_extra("edge-run classify --watch", "watch", "watchdog")
    from watchdog import events, observers

    class Handler(events.FileSystemEventHandler):  # type: ignore[misc]  # its types are not followed
        def on_created(self, event: events.FileSystemEvent) -> None:
            on_arrival(Path(os.fsdecode(event.src_path)))

        def on_closed(self, event: events.FileSystemEvent) -> None:
            on_arrival(Path(os.fsdecode(event.src_path)))

        def on_moved(self, event: events.FileSystemEvent) -> None:
            if event.dest_path:
                on_arrival(Path(os.fsdecode(event.dest_path)))

    # Lost events are found by looking; its log would say so in the middle of the rows.
    logging.getLogger("watchdog").addHandler(logging.NullHandler())
    logging.getLogger("watchdog").propagate = False
    # Not FileCreatedEvent: a file that has just been made is empty. Otherwise full events, which tell a file that was
    # moved in from such a one; and a filter, without which each image that is read would be an event too.
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


def why_not(error: OSError) -> str:
    """Why there can be no observer, and what helps, as a clause."""
    if error.errno == errno.ENOSPC:
        return "the limit on watched folders is reached (sysctl fs.inotify.max_user_watches raises it)"
    if error.errno == errno.EMFILE:
        return "the limit on watchers is reached (sysctl fs.inotify.max_user_instances raises it)"
    return f"the system cannot tell of them ({error.strerror})"


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


SETTLE_S = 5.0
"""How long a file must stay unchanged where the kernel cannot say whether it is being written."""
LOOK_EVERY_S = 30.0
POLL_EVERY_S = 2.0
"""How often folders are looked through, with inotify and without; less often where looking itself takes long."""
MAX_WAITING = 100_000
"""Events that wait; when there are more, they are dropped and the folders are looked through."""

_TICK_S = 0.5
# Looking may take this share of the time: a walk over a million files takes seconds.
_LOOKING_SHARE = 0.02
_MAX_REMEMBERED = 1 << 14


class FolderWatch:
    """The images in some folders and all below them, and then each new one, until it is closed.

    Hidden files and folders, links to folders and names without the suffix of an image are left out, so the
    temporary names of download and copy programs are too. A file that is written again comes again; an empty one is
    not there yet. Iterate over it once, from one thread at a time.

    Args:
        folders: What to watch.
        only_new: Whether what is there at the start is left out.
        observe: Starts what tells of files that are whole.

    Raises:
        UsageError: One of them is no folder.
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
        # None wakes the iteration up to be ended. SimpleQueue may be put to from a signal handler.
        self._events: SimpleQueue[Path | None] = SimpleQueue()
        self._closed = self._lost = False
        self._known = NameSet()
        self._given: dict[Path, Signature] = {}
        self._candidates: dict[Path, tuple[Signature, float]] = {}
        self.problem: str | None = None
        """Why folders are looked through every few seconds instead of being told; None while inotify works."""
        self._observer: Observer | None = None
        try:
            self._observer = observe(self._folders, self._on_arrival)
        except OSError as error:
            self.problem = f"new files are looked for every {POLL_EVERY_S:g} s, because {why_not(error)}"

    def __iter__(self) -> Iterator[Path | Failed]:
        """Yield images as they are whole, and a `Failed` for a folder that cannot be read at the start.

        Raises:
            SourceError: A watched folder is gone.
        """
        looked_s = tried_s = time.monotonic()
        took_s = 0.0
        yield from self._look(self._folders, first=True)
        while not self._closed:
            pause_s = max(POLL_EVERY_S if self.problem else LOOK_EVERY_S, took_s / _LOOKING_SHARE)
            if (self._lost and self._events.empty()) or time.monotonic() >= looked_s + pause_s:
                self._lost, looked_s = False, time.monotonic()
                for item in self._look(self._folders):
                    given_s = time.monotonic()
                    yield item
                    looked_s += time.monotonic() - given_s
                took_s = time.monotonic() - looked_s
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
        """End the iteration, also one that waits. May be called from any thread, a signal handler, and again."""
        self._closed = True
        self._events.put(None)

    def stop(self) -> None:
        """Close, and end the threads that listen."""
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
                yield from self._look([path])
        elif is_image_or_raw_name(path) and self._is_ours(path) and self._take(path, whole=True):
            yield path

    def _look(self, folders: Sequence[Path], *, first: bool = False) -> Iterator[Path | Failed]:
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
        """Whether a file is to be given now: it is whole, holds something, and was not given as it is."""
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
        """Keep what the latest files were like, so that one that is written again is told from one told twice."""
        self._given.pop(path, None)
        self._given[path] = signature
        if len(self._given) > _MAX_REMEMBERED:
            del self._given[next(iter(self._given))]

    def _is_ours(self, path: Path) -> bool:
        """Whether neither the path nor a folder above it, up to a watched one, is hidden."""
        inside = (path.relative_to(folder).parts for folder in self._folders if path.is_relative_to(folder))
        return any(not any(part.startswith(".") for part in parts) for parts in inside)

    def _check_folders(self) -> None:
        for folder in self._folders:
            if not folder.is_dir():
                raise SourceError(f"{folder}: is no longer there; make or mount it and start again")
