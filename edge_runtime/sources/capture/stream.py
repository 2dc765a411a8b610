"""Network streams through the FFmpeg in OpenCV."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from edge_runtime.sources.capture.grabs import Camera, CameraGoneError, Grab
from edge_runtime.sources.capture.messages import FailureKind
from edge_runtime.sources.capture.paced_video import PacedVideo
from edge_runtime.sources.frames import Capture

_TIMEOUT_MS = 5000
_OPTIONS_VARIABLE = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
# TCP, because UDP loses packets and so parts of pictures. An address leads to no file of this machine.
_OPTIONS = (
    "rtsp_transport;tcp|fflags;nobuffer|"
    "protocol_whitelist;rtsp,rtsps,rtp,rtmp,rtmps,udp,tcp,tls,http,https,httpproxy,crypto,data"
)
_PAUSE_S = 0.3

_MOST_BEHIND_S = 2.0
_BUSY_SHARE = 0.8
_TOO_SLOW = "its pictures come faster than this machine decodes them; choose a smaller stream of the camera"


def open_stream(address: str, threads: int, patience_s: float = 0.0) -> Camera:
    """Open a stream, or a video on a web server.

    Args:
        address: With its user name and password.
        threads: For decoding; each beyond the first holds one picture back. 0 takes one per core.
        patience_s: How long to try again, in seconds.

    Raises:
        CameraGoneError: It cannot be opened.
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
    # A file on a web server has a length; it would come faster than it was filmed.
    return PacedVideo(lambda: capture, loop=False) if capture.get(cv2.CAP_PROP_FRAME_COUNT) > 0 else Stream(capture)


class Stream:
    """A network stream; it gives what comes, as fast as it comes.

    Args:
        capture: Opened.
        cpu_s: Processor seconds that this process has used, for tests.
    """

    note: str | None = None

    def __init__(self, capture: Capture, cpu_s: Callable[[], float] = time.process_time) -> None:
        self._capture = capture
        self._punctuality = _Punctuality(cpu_s)

    def read(self) -> Grab | None:
        """Wait for the next picture; see `Camera.read`."""
        import cv2

        if not self._capture.grab():
            raise CameraGoneError("the stream ended or went silent")
        started_s = time.perf_counter()
        self._punctuality.check(started_s, self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1e3)
        ok, pixels = self._capture.retrieve()
        return Grab(started_s, pixels) if ok else None

    def close(self) -> None:
        """Close the connection."""
        self._capture.release()


class _Punctuality:
    """Sees when pictures are read later and later after they were sent, while the processor is busy all the time.

    Their age would grow without a limit, and nothing else would show it: they wait in buffers of the network. A camera
    that sends in bursts is late too, but leaves the processor idle in between.
    """

    def __init__(self, cpu_s: Callable[[], float]) -> None:
        self._cpu_s = cpu_s
        self._start(0.0, float("inf"))

    def check(self, now_s: float, position_s: float) -> None:
        """Compare a picture's own time with the clock.

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
        """Compare from now on with this delay."""
        self._least_at_s, self._least_s, self._cpu_at_least_s = now_s, delay_s, self._cpu_s()
