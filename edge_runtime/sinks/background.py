"""Run any sink in its own thread, so that a slow disk or network does not delay a camera."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from edge_runtime.errors import EdgeKitError
from edge_runtime.results import Result
from edge_runtime.sinks.base import MonitoredSink, Sink

if TYPE_CHECKING:
    from edge_runtime.preprocess import ImageU8


CLOSE_DEADLINE_S = 2.0
CAPACITY, CAPACITY_WITH_IMAGE = 64, 4
# Errors of the system, libraries and peers; any other exception is a bug of this program.
_EXPECTED_ERRORS = (OSError, ValueError, RuntimeError, EdgeKitError)
_Item = tuple[Result, "ImageU8 | None"]


class BackgroundSink(MonitoredSink):
    """A bounded queue and a daemon thread in front of another sink; a full queue drops its oldest result.

    An error of the inner sink becomes `problem`, and the result counts as dropped; `problem` is None again after the
    next result that is written. A bug of the inner sink ends the thread with a traceback: from then on `problem` says
    so, and every result counts as dropped. `write` may be called from any thread.

    Args:
        inner: Sink that writes; its methods are called from the thread only.
        name: Name in health and metrics.
        capacity: Length of the queue in results; None is 64, or 4 with frames, which take megabytes each.
        wants: Filter of results, called in the caller's thread; None takes all.
        with_image: True to pass frames to the inner sink; each is copied, because it is valid only during ``write``.
    """

    def __init__(
        self,
        inner: Sink,
        name: str,
        *,
        capacity: int | None = None,
        wants: Callable[[Result], bool] | None = None,
        with_image: bool = False,
    ) -> None:
        self.name, self.dropped = name, 0
        self.problem: str | None = None
        self._inner, self._wants, self._with_image = inner, wants, with_image
        self._capacity = capacity or (CAPACITY_WITH_IMAGE if with_image else CAPACITY)
        self._changed = threading.Condition()
        self._waiting: deque[_Item] = deque()
        self._closing = self._ended = False
        self._thread = threading.Thread(target=self._run, name=f"sink {name}", daemon=True)
        self._thread.start()

    def write(self, result: Result, image_hwc_rgb_u8: ImageU8 | None = None) -> None:
        """Queue a result and return at once."""
        if self._closing or (self._wants and not self._wants(result)):
            return
        keep = image_hwc_rgb_u8.copy() if self._with_image and image_hwc_rgb_u8 is not None else None
        with self._changed:
            if self._ended:
                self.dropped += not self._closing
                return
            if len(self._waiting) >= self._capacity:
                self._waiting.popleft()
                self.dropped += 1
                self.problem = self.problem or "is slower than the results arrive"
            self._waiting.append((result, keep))
            self._changed.notify()

    def close(self) -> None:
        """Write what is queued and close the inner sink, within `CLOSE_DEADLINE_S` seconds.

        In the last fifth of that time the queue is dropped, so that a slow inner sink is still closed. A sink that
        hangs stays open until the process ends.
        """
        deadline_s = time.monotonic() + CLOSE_DEADLINE_S
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(CLOSE_DEADLINE_S * 0.8)
        with self._changed:
            self.dropped += len(self._waiting)
            self._waiting.clear()
        self._thread.join(max(0.0, deadline_s - time.monotonic()))

    def _run(self) -> None:
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._waiting or self._closing)
                    if not self._waiting:
                        break
                    result, image_hwc_rgb_u8 = self._waiting.popleft()
                self._pass_on(result, image_hwc_rgb_u8)
                del result, image_hwc_rgb_u8  # a waiting thread must not hold the last frame
        finally:
            with self._changed:
                self._ended = True
                if not self._closing:
                    self.problem = "stopped by a bug, see the traceback; start the program again"
                    self.dropped += len(self._waiting) + 1
                    self._waiting.clear()
            try:
                self._inner.close()
            except _EXPECTED_ERRORS as error:
                self._note(error)

    def _pass_on(self, result: Result, image_hwc_rgb_u8: ImageU8 | None) -> None:
        try:
            self._inner.write(result, image_hwc_rgb_u8)
        except _EXPECTED_ERRORS as error:
            self._note(error)
            with self._changed:
                self.dropped += 1
        else:
            self.problem = None

    def _note(self, error: Exception) -> None:
        reason = error.strerror if isinstance(error, OSError) else None
        self.problem = reason or str(error) or type(error).__name__
