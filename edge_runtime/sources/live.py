"""Cameras and streams: a thread reads all the time and keeps only the newest frame."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

from edge_runtime.errors import SourceError
from edge_runtime.sources.frames import Capture, Frame, FrameSource

OPEN_DEADLINE_S = 15.0
STALL_DEADLINE_S = 5.0
_RETRY_S = 0.02
_CLOSE_DEADLINE_S = 1.0


class LiveSource(FrameSource):
    """A camera or network stream. Whoever asks gets the newest frame; older ones are dropped, never queued.

    The device is opened and read in a daemon thread, so that a driver or network that blocks for ever cannot block
    the program: the deadlines below count in the asking thread.

    Args:
        name: As results call it.
        open_capture: Opens the device; its ``isOpened`` tells whether that worked.
        hint: What to try when it does not open.
        open_deadline_s: How long opening and the first frame may take together, in seconds.
        stall_deadline_s: How long a running source may give no frame, in seconds.
    """

    live = True

    def __init__(
        self,
        name: str,
        open_capture: Callable[[], Capture],
        hint: str,
        *,
        open_deadline_s: float = OPEN_DEADLINE_S,
        stall_deadline_s: float = STALL_DEADLINE_S,
    ) -> None:
        self.name = name
        self._open_capture, self._hint = open_capture, hint
        self._open_deadline_s, self._stall_deadline_s = open_deadline_s, stall_deadline_s
        self._changed = threading.Condition()
        self._newest: Frame | None = None
        self._opened = False
        self._failure: str | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._capture_all, name=f"capture {name}", daemon=True)

    def frames(self) -> Iterator[Frame]:
        """Yield the newest frame, each at most once, until closed; see `FrameSource.frames`."""
        self._thread.start()
        deadline_s = self._open_deadline_s
        while not self._stop.is_set():
            yield self._next(deadline_s)
            deadline_s = self._stall_deadline_s

    def close(self) -> None:
        """Ask the thread to release the device, and wait for it a moment."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(_CLOSE_DEADLINE_S)

    def _next(self, deadline_s: float) -> Frame:
        with self._changed:
            self._changed.wait_for(lambda: self._newest is not None or self._failure is not None, timeout=deadline_s)
            frame, self._newest = self._newest, None
        if frame is not None:
            return frame
        if self._failure is not None:
            raise SourceError(f"{self.name}: {self._failure}; {self._hint}")
        if not self._opened:
            raise SourceError(f"{self.name}: did not open within {deadline_s:g} s; {self._hint}")
        raise SourceError(
            f"{self.name}: gave no frame for {deadline_s:g} s; check its cable, power or network, then start again"
        )

    def _capture_all(self) -> None:
        """Body of the thread: open, read until told to stop, release."""
        import cv2

        try:
            capture = self._open_capture()
            try:
                self._opened = capture.isOpened()
                if self._opened:
                    self._read(capture)
                else:
                    self._fail("cannot be opened")
            finally:
                capture.release()
        except cv2.error as error:
            self._fail(f"failed ({error.err})")

    def _fail(self, reason: str) -> None:
        with self._changed:
            self._failure = reason
            self._changed.notify_all()

    def _read(self, capture: Capture) -> None:
        from edge_runtime.preprocess import bgr_to_rgb

        number, first_s = 0, 0.0
        while not self._stop.is_set():
            if not capture.grab():
                self._stop.wait(_RETRY_S)
                continue
            started_s, captured_at = time.perf_counter(), time.time()
            ok, frame_bgr = capture.retrieve()
            if not ok:
                continue
            image = bgr_to_rgb(frame_bgr)
            first_s = first_s or started_s
            decode_ms = (time.perf_counter() - started_s) * 1e3
            with self._changed:
                self._newest = Frame(number, started_s - first_s, captured_at, started_s, decode_ms, image)
                self._changed.notify_all()
            number += 1
