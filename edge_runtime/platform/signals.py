"""Ctrl-C and SIGTERM: silent while a program is loaded, never inside an import, and not in the middle of a row.

Imported before anything else of a program, so it loads nothing.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any

from edge_runtime.errors import EXIT_INTERRUPTED

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_IMPORTER = "<frozen importlib"
_LONGEST_IMPORT_S = 2.0
_LOOK_AGAIN_S = 0.02


def end_silently() -> None:
    """End this process at Ctrl-C with exit code 130 and no traceback, while nothing has been written yet.

    For the first line of a program; `raise_interrupts` ends it. SIGTERM ends a program silently anyway.
    """
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as under nohup
        signal.signal(signal.SIGINT, lambda _number, _frame: os._exit(EXIT_INTERRUPTED))


def raise_interrupts(number: signal.Signals = signal.SIGINT) -> None:
    """Raise KeyboardInterrupt at a signal, but not inside an import; a signal that is ignored stays ignored."""
    if signal.getsignal(number) is not signal.SIG_IGN:
        signal.signal(number, outside_imports(_raise))


def _raise(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


class outside_imports:  # noqa: N801  used like a function
    """Signal handler that waits for the end of an import, for at most two seconds.

    An exception inside an import becomes another one: native modules turn it into ImportError, and the user would read
    that a package is missing.

    Args:
        handler: Handler to call then, in the main thread.

    Attributes:
        signalled: True after the first signal of this process; any error may follow from it.
    """

    signalled = False

    def __init__(self, handler: Callable[[int, FrameType | None], None]) -> None:
        self._handler = handler
        self._until_s: float | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Call the handler, or look again 20 ms later."""
        outside_imports.signalled = True
        self._until_s = self._until_s or time.monotonic() + _LONGEST_IMPORT_S
        if time.monotonic() < self._until_s and _is_importing(frame):
            # Not a thread, which could wait for a lock that the interrupted code holds.
            signal.signal(signal.SIGALRM, self)
            signal.setitimer(signal.ITIMER_REAL, _LOOK_AGAIN_S)
        else:
            self._until_s = None
            self._handler(number, frame)


def _is_importing(frame: FrameType | None) -> bool:
    while frame:
        if frame.f_code.co_filename.startswith(_IMPORTER):
            return True
        frame = frame.f_back
    return False


class Interrupts:
    """Turns Ctrl-C and SIGTERM into KeyboardInterrupt, but not in the middle of a row.

    An exception during a write would leave half a line. So the first signal waits for the end of a `held` block; the
    second does not, since a write blocks for ever if the reader has stopped reading.

    Args:
        stop: Called at the first signal to end whatever the run waits for. It returns True if the run now ends
            normally by itself, so that nothing is raised. It runs in a signal handler and must not block.

    Attributes:
        stopped: True if the run ends by itself because of a signal.
    """

    def __init__(self, stop: Callable[[], bool] | None = None) -> None:
        self._holding = self._waiting = False
        self._stop = stop
        self._previous: list[tuple[signal.Signals, Any]] = []
        self.stopped = False

    def __enter__(self) -> Interrupts:
        handler = outside_imports(self._on_signal)
        self._previous = [(number, signal.signal(number, handler)) for number in _STOP_SIGNALS]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, previous in self._previous:
            signal.signal(number, previous)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Delay a first signal until the block has ended."""
        self._holding = True
        try:
            yield
        finally:
            self._holding = False
        if self._waiting:
            raise KeyboardInterrupt

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        stop, self._stop = self._stop, None
        if stop and stop():
            self.stopped = True
        elif self._holding and not self._waiting:
            self._waiting = True
        else:
            raise KeyboardInterrupt
