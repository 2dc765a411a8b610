"""Video files at their own pace, as if they were a camera."""

from __future__ import annotations

import time
from collections.abc import Callable

from edge_runtime.sources.capture.grabs import CameraGoneError, Grab
from edge_runtime.sources.capture.messages import FailureKind
from edge_runtime.sources.frames import Capture

_FALLBACK_FPS = 25.0
_FARTHEST_S = 2.0
"""How far timestamps may jump, or reading may fall behind, before the clock is set anew."""


def open_file(path: str) -> Capture:
    """Open a video file.

    Raises:
        CameraGoneError: OpenCV cannot read it.
    """
    import cv2

    capture = cv2.VideoCapture(path)
    if not capture.isOpened():
        raise CameraGoneError("is not a video that OpenCV can read")
    return capture


class PacedVideo:
    """A video that is played at its own pace; what comes too late is skipped.

    Args:
        open_capture: Opens it from its start.
        loop: Whether it begins again at its end.

    Raises:
        CameraGoneError: It cannot be opened.
    """

    note: str | None = None

    def __init__(self, open_capture: Callable[[], Capture], *, loop: bool) -> None:
        import cv2

        self._open_capture, self._loop = open_capture, loop
        self._capture = open_capture()
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self._period_s = 1 / fps if 0 < fps <= 1000 else 1 / _FALLBACK_FPS
        self._round_start_s = 0.0
        self._round_frames = 0
        self._position_s = 0.0
        self._clock_start_s: float | None = None

    def read(self) -> Grab | None:
        """Wait until the next picture is due; see `Camera.read`."""
        if not self._capture.grab():
            self._start_again()
            return self.read()
        self._position_s = self._position()
        self._round_frames += 1
        now_s = time.perf_counter()
        if self._clock_start_s is None or abs(self._clock_start_s + self._position_s - now_s) > _FARTHEST_S:
            self._clock_start_s = now_s - self._position_s
        wait_s = self._clock_start_s + self._position_s - now_s
        if wait_s < -self._period_s:
            return None
        time.sleep(max(0.0, wait_s))
        started_s = time.perf_counter()
        ok, pixels = self._capture.retrieve()
        return Grab(started_s, pixels, position_s=self._position_s) if ok else None

    def close(self) -> None:
        """Release the file."""
        self._capture.release()

    def _position(self) -> float:
        import cv2

        in_round_s = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1e3
        # Some readers know no timestamps.
        if not in_round_s > 0:
            in_round_s = self._round_frames * self._period_s
        return self._round_start_s + in_round_s

    def _start_again(self) -> None:
        if self._round_frames == 0:
            raise CameraGoneError("no frame of it can be decoded; it is damaged", FailureKind.FATAL)
        if not self._loop:
            raise CameraGoneError("the video ended", FailureKind.ENDED)
        self._capture.release()
        self._capture = self._open_capture()
        self._round_start_s = self._position_s + self._period_s
        self._round_frames = 0
