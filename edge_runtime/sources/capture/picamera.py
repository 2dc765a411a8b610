"""Cameras at the CSI port of a Raspberry Pi, through picamera2 where it is installed."""

from __future__ import annotations

import time
from typing import Any

from edge_runtime.sources.capture.grabs import CameraGoneError, Grab
from edge_runtime.sources.capture.messages import FailureKind

_DEFAULT_SIZE_WH = (1280, 720)
_INSTALL = (
    "needs picamera2, which Python cannot import here ({}): run sudo apt install python3-picamera2 and make the "
    "virtual environment with python3 -m venv --system-site-packages"
)


class PiCamera:
    """A camera of libcamera.

    Args:
        number: As ``rpicam-hello --list-cameras`` counts them.
        size_wh: Width and height in pixels; None for 1280x720.
        fps: Frames per second; None for the camera's choice.

    Raises:
        CameraGoneError: picamera2 is not installed, or the camera cannot be opened.
    """

    note: str | None = None

    def __init__(self, number: int, size_wh: tuple[int, int] | None, fps: float | None) -> None:
        try:
            from picamera2 import Picamera2
        except (ImportError, OSError) as error:
            raise CameraGoneError(_INSTALL.format(error), FailureKind.FATAL) from error
        wanted_wh = tuple(size_wh or _DEFAULT_SIZE_WH)
        # Its library raises whatever libcamera's bindings raise.
        try:
            self._camera: Any = Picamera2(number)
            configuration = self._camera.create_video_configuration(
                # This name is that of DRM: the bytes in memory are blue, green, red.
                main={"size": wanted_wh, "format": "RGB888"},
                controls={"FrameRate": fps} if fps else {},
                # Not a frame that has waited, but the next one.
                queue=False,
            )
            self._camera.configure(configuration)
            given_wh = tuple(self._camera.camera_configuration()["main"]["size"])
            self._camera.start()
        except (RuntimeError, OSError, LookupError, ValueError) as error:
            raise CameraGoneError(f"cannot be opened ({error})") from error
        if size_wh and given_wh != wanted_wh:
            self.note = f"the camera gives {given_wh[0]}x{given_wh[1]} instead of {wanted_wh[0]}x{wanted_wh[1]}"

    def read(self) -> Grab | None:
        """Wait for the next picture; see `Camera.read`."""
        try:
            pixels = self._camera.capture_array("main")
        except (RuntimeError, OSError, TimeoutError) as error:
            raise CameraGoneError(f"gives no more pictures ({error})") from error
        return Grab(time.perf_counter(), pixels)

    def close(self) -> None:
        """Stop it."""
        self._camera.stop()
        self._camera.close()
