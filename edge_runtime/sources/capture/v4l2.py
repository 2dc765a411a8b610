"""Cameras of Video for Linux."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from edge_runtime.sources.capture.grabs import CameraGoneError, Grab
from edge_runtime.sources.capture.strict_jpeg import decode_jpeg
from edge_runtime.sources.frames import Capture

if TYPE_CHECKING:
    from edge_runtime.preprocess import ImageU8

_RETRY_S = 0.02
_GIVE_UP_S = 2.0


def open_v4l2(address: int | str) -> Capture:
    """Ask OpenCV for a camera by its number or its path below ``/dev``; it may not be open afterwards."""
    import cv2

    return cv2.VideoCapture(address, cv2.CAP_V4L2)


class V4l2Camera:
    """A camera of Video for Linux. Motion JPEG is decoded here, so that half a picture is none.

    Args:
        capture: Perhaps opened.
        spec: What to ask for: ``size_wh``, ``fps``, ``pixel_format`` as four letters.
        take_warnings: See `decode_jpeg`.

    Raises:
        CameraGoneError: It is not open.
    """

    def __init__(self, capture: Any, spec: Mapping[str, Any], take_warnings: Callable[[], str]) -> None:
        self._capture, self._take_warnings = capture, take_warnings
        if not capture.isOpened():
            capture.release()
            raise CameraGoneError("cannot be opened")
        self.note = _configure(capture, spec)

    def read(self) -> Grab | None:
        """Wait for the next picture; see `Camera.read`."""
        silent_since_s = time.perf_counter()
        while not self._capture.grab():
            if time.perf_counter() - silent_since_s > _GIVE_UP_S:
                raise CameraGoneError("the camera gives no more pictures; was it unplugged?")
            time.sleep(_RETRY_S)
        started_s = time.perf_counter()
        ok, pixels = self._capture.retrieve()
        if not ok:
            return None
        if 1 in pixels.shape[:2]:
            return Grab(started_s, self._decode(pixels), is_rgb=True)
        return Grab(started_s, pixels)

    def close(self) -> None:
        """Release the device."""
        self._capture.release()

    def _decode(self, pixels: Any) -> ImageU8:
        # A row of bytes is a JPEG as the camera sent it, in a buffer that may be longer.
        return decode_jpeg(pixels.tobytes(), self._take_warnings)


def _configure(capture: Any, spec: Mapping[str, Any]) -> str | None:
    """Ask a V4L2 camera for what the user wants; say what it gives instead where that differs."""
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
