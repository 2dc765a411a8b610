"""What inotify tells of folders, through the ``watchdog`` library; the only place that imports it."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol


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
    # moved in from such a one; and a filter, without which each picture that is read would be an event too.
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
