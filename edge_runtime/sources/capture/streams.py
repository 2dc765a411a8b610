"""Network streams, and video files at their own pace, through OpenCV."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from edge_runtime.sources.base import Capture
from edge_runtime.sources.capture.messages import Camera, CameraGoneError, FailureKind, Grab

_FALLBACK_FPS = 25.0
_FARTHEST_S = 2.0
"""Jump of timestamps, or delay of reading, that resets the clock, in seconds."""


def capture_file(path: str) -> Capture:
    """Pass a file to OpenCV, which takes a relative name for an address, and crashes at a name that is not UTF-8."""
    import cv2

    path = os.path.abspath(path)  # noqa: PTH100
    if path.isascii() or not any("\ud800" <= char <= "\udfff" for char in path):
        return cv2.VideoCapture(path)
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return cv2.VideoCapture(f"/proc/self/fd/{handle}")
    finally:
        os.close(handle)


def open_file(path: str) -> Capture:
    """Open a video file.

    Raises:
        CameraGoneError: OpenCV cannot read the file.
    """
    capture = capture_file(path)
    if not capture.isOpened():
        raise CameraGoneError("is not a video that OpenCV can read")
    return capture


class PacedVideo:
    """Video played at its own pace; late frames are skipped.

    Args:
        open_capture: Function that opens the video at its start.
        loop: True to start again at the end.

    Raises:
        CameraGoneError: The video cannot be opened.
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
        """Wait until the next image is due; see `Camera.read`."""
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
        # Some readers provide no timestamps.
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


_TIMEOUT_MS = 5000
_OPTIONS_VARIABLE = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
# TCP, because UDP loses packets and so parts of images. The whitelist excludes files of this machine.
_OPTIONS = (
    "rtsp_transport;tcp|fflags;nobuffer|"
    "protocol_whitelist;rtsp,rtsps,rtp,rtmp,rtmps,udp,tcp,tls,http,https,httpproxy,crypto,data"
)
_PAUSE_S = 0.3

_MOST_BEHIND_S = 2.0
_BUSY_SHARE = 0.8
_TOO_SLOW = "its images come faster than this machine decodes them; choose a smaller stream of the camera"


def open_stream(address: str, threads: int, patience_s: float = 0.0) -> Camera:
    """Open a stream, or a video on a web server.

    Args:
        address: URL, including user name and password.
        threads: Decoding threads; each beyond the first delays images by one. 0 takes one per core.
        patience_s: Time for further attempts, in seconds.

    Raises:
        CameraGoneError: The stream cannot be opened.
    """
    import cv2

    os.environ.setdefault(_OPTIONS_VARIABLE, _OPTIONS)
    parameters = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, _TIMEOUT_MS]
    if threads:
        parameters += [cv2.CAP_PROP_N_THREADS, threads]
    give_up_s = time.perf_counter() + patience_s
    while not (capture := cv2.VideoCapture(address, cv2.CAP_FFMPEG, parameters)).isOpened():
        if time.perf_counter() >= give_up_s:
            raise CameraGoneError("cannot be opened")
        time.sleep(_PAUSE_S)
    # A file on a web server has a length; it would arrive faster than real time.
    return PacedVideo(lambda: capture, loop=False) if capture.get(cv2.CAP_PROP_FRAME_COUNT) > 0 else Stream(capture)


class Stream:
    """Network stream, read as fast as it arrives.

    Args:
        capture: `cv2.VideoCapture` of the open stream.
        cpu_s: Function that returns the processor seconds of this process.
    """

    note: str | None = None

    def __init__(self, capture: Capture, cpu_s: Callable[[], float] = time.process_time) -> None:
        self._capture = capture
        self._delay = _DelayMonitor(cpu_s)

    def read(self) -> Grab | None:
        """Wait for the next image; see `Camera.read`."""
        import cv2

        if not self._capture.grab():
            raise CameraGoneError("the stream ended or went silent")
        started_s = time.perf_counter()
        self._delay.check(started_s, self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1e3)
        ok, pixels = self._capture.retrieve()
        return Grab(started_s, pixels) if ok else None

    def close(self) -> None:
        """Close the connection."""
        self._capture.release()


class _DelayMonitor:
    """Detect a growing delay between an image's timestamp and its reading while the processor is busy.

    The images wait in network buffers, so nothing else would show that their age grows without a limit. A camera that
    sends in bursts is late too, but leaves the processor idle in between.
    """

    def __init__(self, cpu_s: Callable[[], float]) -> None:
        self._cpu_s = cpu_s
        self._start(0.0, float("inf"))

    def check(self, now_s: float, position_s: float) -> None:
        """Compare an image's timestamp with the clock.

        Raises:
            CameraGoneError: Reading has fallen behind.
        """
        delay_s = now_s - position_s
        if delay_s < self._least_s:
            self._start(now_s, delay_s)
        if delay_s - self._least_s < _MOST_BEHIND_S:
            return
        busy_s = self._cpu_s() - self._cpu_at_least_s
        if position_s > 0 and busy_s > _BUSY_SHARE * (now_s - self._least_at_s):
            raise CameraGoneError(_TOO_SLOW, FailureKind.SLOW)
        # A pause of the camera, a burst, or clocks that drift.
        self._start(now_s, delay_s)

    def _start(self, now_s: float, delay_s: float) -> None:
        """Take this delay as the new reference."""
        self._least_at_s, self._least_s, self._cpu_at_least_s = now_s, delay_s, self._cpu_s()
