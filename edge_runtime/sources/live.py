"""Live sources: captured in a child process, watched, and reopened after a failure."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Generator, Iterator, Mapping
from typing import Any

from edge_runtime.errors import SourceError
from edge_runtime.platform.net import RetryPolicy
from edge_runtime.results import SourceState, StateChange
from edge_runtime.sources.base import CaptureOptions, Frame, FrameSource
from edge_runtime.sources.capture.messages import Failure, FailureKind
from edge_runtime.sources.capture.process import CaptureProcess
from edge_runtime.text import hide_secrets

_STEADY_S = 10.0
"""Duration of a connection that resets the pauses between attempts, in seconds."""


class LiveSource(FrameSource):
    """Camera, stream or video at its own pace; the reader gets the newest frame, older ones are dropped.

    `frames` starts the capture process, so its thread must live as long as the frames are needed: Linux kills that
    process with the thread that started it. `close` may be called from any thread.

    Args:
        name: Name of the source in results.
        spec: Source and options, see `edge_runtime.sources.capture.child.open_camera`.
        hint: Advice for a source that does not open.
        options: Time limits, and whether to wait for a camera that is missing at the start.
    """

    live = True

    def __init__(self, name: str, spec: Mapping[str, Any], hint: str, options: CaptureOptions | None = None) -> None:
        self.name = name
        self._shown = f"camera {name}" if name.isdecimal() else name
        self._spec, self._hint, self._options = spec, hint, options or CaptureOptions()
        self._closed = threading.Event()
        self._process: CaptureProcess | None = None
        self._lock = threading.Lock()
        self._connected = False
        # More threads would delay images; a stream that one thread cannot decode gets one per core.
        self._threads = 1
        self._number = 0
        self._time_s = 0.0
        self._epoch_s: float | None = None

    @property
    def capture_pid(self) -> int | None:
        """Process id of the capture process, or None while there is none."""
        process = self._process
        return process.pid if process else None

    def frames(self, until_s: float | None = None) -> Iterator[Frame | StateChange]:
        """Yield the newest frame, each at most once, and changes of the source; see `FrameSource.frames`.

        A camera that stalls or disappears is reopened without a limit, with growing pauses.
        """
        end_s = math.inf if until_s is None else until_s
        retry = RetryPolicy(first_s=0.5, longest_s=30.0)
        last_reason: str | None = None
        while not self._is_over(end_s):
            started_s = time.perf_counter()
            had_frames, failure = yield from self._session(end_s)
            if failure is None:
                return
            if failure.kind is FailureKind.ENDED:
                yield self._change(SourceState.ENDED, failure.reason)
                return
            if failure.kind is FailureKind.FATAL:
                raise SourceError(hide_secrets(f"{self._shown}: {failure.reason}"))
            if not (self._connected or self._options.wait):
                raise SourceError(hide_secrets(f"{self._shown}: {failure.reason}; {self._hint}"))
            if failure.kind is FailureKind.SLOW:
                self._threads = 0
            if had_frames and time.perf_counter() - started_s > _STEADY_S:
                retry.reset()
            if had_frames or failure.reason != last_reason:
                yield self._change(SourceState.RECONNECTING, failure.reason)
            last_reason = failure.reason
            self._closed.wait(max(0.0, min(retry.next_s(), end_s - time.perf_counter())))

    def close(self) -> None:
        """Kill the capture process and release everything."""
        self._closed.set()
        with self._lock:
            process, self._process = self._process, None
        if process:
            process.close()

    def _session(self, end_s: float) -> Generator[Frame | StateChange, None, tuple[bool, Failure | None]]:
        """Yield the frames of one process; return whether there were any, and the failure: None at the deadline."""
        process = self._start()
        if process is None:
            return False, None
        had_frames = False
        got: Frame | Failure | None = None
        timeout_s = self._options.open_timeout_s
        try:
            # Checked before every frame: a slow reader always finds one waiting.
            while not self._is_over(end_s):
                timeout_s = self._options.stall_timeout_s if had_frames else self._options.open_timeout_s
                got = process.next_frame(min(end_s, time.perf_counter() + timeout_s))
                if not isinstance(got, Frame):
                    break
                if not had_frames:
                    yield self._change(SourceState.CONNECTED, process.note)
                    had_frames = self._connected = True
                self._time_s = got.time_s
                if self._epoch_s is None:
                    self._epoch_s = got.started_s - got.time_s
                yield got
        finally:
            self._finish(process)
        if isinstance(got, Failure) and not self._closed.is_set():
            return had_frames, got
        if self._is_over(end_s):
            return had_frames, None
        failure = Failure(_silence(process, timeout_s, had_frames=had_frames))
        if had_frames:
            yield self._change(SourceState.STALLED, failure.reason)
        return had_frames, failure

    def _start(self) -> CaptureProcess | None:
        """Start a process that continues the frame numbers; None after `close`."""
        with self._lock:
            if self._closed.is_set():
                return None
            clock = {"number": self._number, "time_s": self._time_s, "epoch_s": self._epoch_s}
            try:
                self._process = CaptureProcess({**self._spec, **clock, "threads": self._threads})
            except SourceError as error:
                raise SourceError(f"{self._shown}: {error}") from error
            return self._process

    def _finish(self, process: CaptureProcess) -> None:
        self._number = max(self._number, process.newest_number() + 1)
        process.close()
        with self._lock:
            if self._process is process:
                self._process = None

    def _is_over(self, end_s: float) -> bool:
        return self._closed.is_set() or time.perf_counter() >= end_s

    def _change(self, state: SourceState, reason: str | None) -> StateChange:
        return StateChange(self.name, state, time.time(), hide_secrets(reason) if reason else reason)


def _silence(process: CaptureProcess, timeout_s: float, *, had_frames: bool) -> str:
    """Explain why no frame arrived, as far as known."""
    if process.complaint:
        return f"gave no frame that can be used for {timeout_s:g} s ({process.complaint})"
    if had_frames:
        return f"gave no frame for {timeout_s:g} s"
    return f"gave no frame within {timeout_s:g} s" if process.is_open else f"did not open within {timeout_s:g} s"
