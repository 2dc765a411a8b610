"""Which camera, stream or video is opened in the process that captures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from edge_runtime.sources.capture.grabs import Camera

_PATIENCE_S = 2.0


def open_camera(spec: Mapping[str, Any], take_warnings: Callable[[], str]) -> Camera:
    """Open what the parent asked for.

    Args:
        spec: ``kind`` (``v4l2``, ``stream``, ``http``, ``file`` or ``picamera``), ``address``, ``threads`` for
            decoding a stream (0: one per core), and the fields of `CaptureOptions` that concern the camera.
        take_warnings: See `decode_jpeg`.

    Raises:
        CameraGoneError: It cannot be opened.
    """
    kind, address = spec["kind"], spec["address"]
    if kind == "picamera":
        from edge_runtime.sources.capture.picamera import PiCamera

        return PiCamera(address, spec["size_wh"], spec["fps"])
    if kind == "v4l2":
        from edge_runtime.sources.capture.v4l2 import V4l2Camera, open_v4l2

        return V4l2Camera(open_v4l2(address), spec, take_warnings)
    if kind == "file":
        from edge_runtime.sources.capture.paced_video import PacedVideo, open_file

        return PacedVideo(lambda: open_file(address), loop=spec["loop"])
    from edge_runtime.sources.capture.stream import open_stream

    if kind == "http":
        from edge_runtime.sources.capture.http_camera import open_http

        # Servers of one client at a time need a moment to see that the one who asked for the type is gone.
        return open_http(address, spec["fps"], take_warnings) or open_stream(address, spec["threads"], _PATIENCE_S)
    return open_stream(address, spec["threads"])
