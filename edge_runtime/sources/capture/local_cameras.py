"""Cameras of this machine: Video for Linux, and picamera2 on a Raspberry Pi."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from edge_runtime.sources.base import Capture
from edge_runtime.sources.capture.messages import CameraGoneError, FailureKind, Grab
from edge_runtime.sources.capture.strict_jpeg import decode_jpeg

GIVE_UP_S = 2.0
"""Time without an image after which a V4L2 camera is gone, in seconds."""

_RETRY_S = 0.02


def open_v4l2(address: int | str) -> Capture:
    """Open a camera by its number or its path below ``/dev``; the caller checks that it is open."""
    import cv2

    return cv2.VideoCapture(address, cv2.CAP_V4L2)


class V4l2Camera:
    """Video for Linux camera. Motion JPEG is decoded strictly, so that an incomplete image is refused.

    Args:
        capture: `cv2.VideoCapture` of the camera, open or not.
        spec: Requested ``size_wh``, ``fps`` and ``pixel_format`` (four letters).
        take_warnings: Warnings of native libraries since the last call, see `decode_jpeg`.

    Raises:
        CameraGoneError: The camera is not open.
    """

    def __init__(self, capture: Any, spec: Mapping[str, Any], take_warnings: Callable[[], str]) -> None:
        self._capture, self._take_warnings = capture, take_warnings
        if not capture.isOpened():
            capture.release()
            raise CameraGoneError("cannot be opened")
        self.note = _configure(capture, spec)

    def read(self) -> Grab | None:
        """Wait for the next image; see `Camera.read`."""
        silent_since_s = time.perf_counter()
        while not self._capture.grab():
            if time.perf_counter() - silent_since_s > GIVE_UP_S:
                raise CameraGoneError("the camera gives no more images; was it unplugged?")
            time.sleep(_RETRY_S)
        started_s = time.perf_counter()
        ok, pixels = self._capture.retrieve()
        if not ok:
            return None
        if 1 in pixels.shape[:2]:
            # A row of bytes is the camera's JPEG, in a buffer that may be longer.
            return Grab(started_s, decode_jpeg(pixels.tobytes(), self._take_warnings), is_rgb=True)
        return Grab(started_s, pixels)

    def close(self) -> None:
        """Release the device."""
        self._capture.release()


def _configure(capture: Any, spec: Mapping[str, Any]) -> str | None:
    """Apply the requested settings; describe those that the camera sets differently."""
    import cv2

    size_wh, fps, fourcc = spec["size_wh"], spec["fps"], spec["pixel_format"]
    if fourcc:
        capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*fourcc))
    if size_wh:
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, size_wh[0])
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, size_wh[1])
    if fps:
        capture.set(cv2.CAP_PROP_FPS, fps)
    given_wh = (int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)))
    given_fps = capture.get(cv2.CAP_PROP_FPS)
    given_fourcc = int(capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little", signed=False).decode("latin-1")
    if given_fourcc == "MJPG":
        capture.set(cv2.CAP_PROP_CONVERT_RGB, 0)
    notes = []
    if size_wh and given_wh != tuple(size_wh):
        notes.append(f"{given_wh[0]}x{given_wh[1]} instead of {size_wh[0]}x{size_wh[1]}")
    if fps and abs(given_fps - fps) > 0.5:
        notes.append(f"{given_fps:g} frames per second instead of {fps:g}")
    if fourcc and given_fourcc != fourcc:
        notes.append(f"{given_fourcc.strip() or 'another format'} instead of {fourcc}")
    return "the camera gives " + ", ".join(notes) if notes else None


_DEFAULT_SIZE_WH = (1280, 720)
_INSTALL = (
    "needs picamera2, which Python cannot import here ({}): run sudo apt install python3-picamera2 and make the "
    "virtual environment with python3 -m venv --system-site-packages"
)


class PiCamera:
    """Raspberry Pi camera, through libcamera.

    Args:
        number: Camera number in ``rpicam-hello --list-cameras``.
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
        # picamera2 passes on the exceptions of libcamera's bindings.
        try:
            self._camera: Any = Picamera2(number)
            configuration = self._camera.create_video_configuration(
                # DRM's name: the bytes in memory are blue, green, red.
                main={"size": wanted_wh, "format": "RGB888"},
                controls={"FrameRate": fps} if fps else {},
                # Capture the next frame, not a queued one.
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
        """Wait for the next image; see `Camera.read`."""
        try:
            pixels = self._camera.capture_array("main")
        except (RuntimeError, OSError, TimeoutError) as error:
            raise CameraGoneError(f"gives no more images ({error})") from error
        return Grab(time.perf_counter(), pixels)

    def close(self) -> None:
        """Stop and close the camera."""
        self._camera.stop()
        self._camera.close()
