"""Settings of this process: cache folder, cores, garbage collection, standard streams, and signals that end it.

Imported at every start, so it loads nothing heavy.
"""

from __future__ import annotations

import contextlib
import gc
import io
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from edge_runtime.errors import EXIT_INTERRUPTED

KEEP_VARIABLE = "EDGEKIT_NATIVE_STDERR"
_STDERR_FD = 2
_USUAL_THRESHOLD = gc.get_threshold()
_START_THRESHOLD = 100_000
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_IMPORTER = "<frozen importlib"
_LONGEST_IMPORT_S = 2.0
_LOOK_AGAIN_S = 0.02


def cache_folder() -> Path:
    """Return ``$EDGEKIT_CACHE``, else ``edgekit`` in the user's cache folder (XDG); its contents may be removed."""
    if "EDGEKIT_CACHE" in os.environ:
        return Path(os.environ["EDGEKIT_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgekit"


def core_count() -> int:
    """Return the number of cores that this process may use, at least 1."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def collect_rarely() -> None:
    """Collect garbage rarely during start-up: scanning the objects of imported modules would take 15 ms."""
    gc.set_threshold(_START_THRESHOLD)


def collect_as_usual() -> None:
    """Collect garbage as usual after start-up, so that a program may run for months.

    Objects made so far are excluded from now on: they stay, and scanning them would delay frames.
    """
    gc.freeze()
    gc.set_threshold(*_USUAL_THRESHOLD)


def open_standard_streams() -> None:
    """Open the standard streams that the caller has closed (``>&-``), so that no other file takes their numbers.

    Reading finds the end; writing results fails, and messages are lost. What the terminal's encoding lacks is escaped.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (_STDERR_FD, "stderr", "w")):
        if getattr(sys, name) is None:
            # Standard output can be opened but not written, because lost results must be an error.
            flags = os.O_RDONLY if name == "stdout" else os.O_RDWR
            with contextlib.suppress(OSError):
                handle = os.open(os.devnull, flags)
                if handle != number:  # something opened the number since
                    os.dup2(handle, number)
                    os.close(handle)
                setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))
        stream = getattr(sys, name)
        if number and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def collecting_later() -> Iterator[None]:
    """Switch the garbage collector off for the block.

    TensorFlow creates millions of permanent objects; scanning them during its import takes more than a second.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@contextlib.contextmanager
def silence_native_stderr() -> Iterator[None]:
    """Discard what native libraries write to standard error during the block; ``sys.stderr`` keeps working.

    LiteRT announces each XNNPACK delegate, and no setting prevents that: the severity threshold is a constant of the
    build, and ``TF_CPP_MIN_LOG_LEVEL`` does not reach it. libjpeg and libpng warn about images without naming them.

    Does nothing when the environment variable EDGEKIT_NATIVE_STDERR is set (to find a crash in a library), or when
    ``sys.stderr`` is not file descriptor 2 (a test, a notebook). The descriptor belongs to the process: for use in
    command lines, not in a library.
    """
    if os.environ.get(KEEP_VARIABLE) or not _is_descriptor_2():
        yield
        return
    previous = sys.stderr
    previous.flush()
    visible = os.dup(_STDERR_FD)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, _STDERR_FD)
    os.close(nowhere)
    sys.stderr = os.fdopen(visible, "w", buffering=1, encoding=previous.encoding, errors="backslashreplace")
    try:
        yield
    finally:
        os.dup2(visible, _STDERR_FD)
        with contextlib.suppress(OSError):  # on a full disk it still holds what it could not write
            sys.stderr.close()
        sys.stderr = previous


def _is_descriptor_2() -> bool:
    try:
        return sys.stderr.fileno() == _STDERR_FD
    except (AttributeError, OSError, ValueError):
        return False


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
