"""Capture process: opens the source given as JSON on standard input and publishes its frames.

A driver or network library that hangs or crashes affects this process alone; the parent kills it and starts another
(`edge_runtime.sources.live`).
"""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from edge_runtime.errors import ImageError, SourceError
from edge_runtime.sources.capture.messages import (
    Camera,
    CameraGoneError,
    Failure,
    FailureKind,
    Grab,
    Message,
    Opened,
    Wake,
    encode,
)
from edge_runtime.sources.capture.shared_frames import FrameWriter
from edge_runtime.sources.capture.strict_jpeg import NativeWarnings

_PATIENCE_S = 2.0


def open_camera(spec: Mapping[str, Any], take_warnings: Callable[[], str]) -> Camera:
    """Open the requested source.

    Args:
        spec: ``kind`` (``v4l2``, ``stream``, ``http``, ``file`` or ``picamera``), ``address``, ``threads`` for
            decoding a stream (0: one per core), and the fields of `CaptureOptions` that concern the camera.
        take_warnings: Warnings of native libraries since the last call, see `decode_jpeg`.

    Raises:
        CameraGoneError: It cannot be opened.
    """
    kind, address = spec["kind"], spec["address"]
    if kind == "picamera":
        from edge_runtime.sources.capture.local_cameras import PiCamera

        return PiCamera(address, spec["size_wh"], spec["fps"])
    if kind == "v4l2":
        from edge_runtime.sources.capture.local_cameras import V4l2Camera, open_v4l2

        return V4l2Camera(open_v4l2(address), spec, take_warnings)
    if kind == "file":
        from edge_runtime.sources.capture.streams import PacedVideo, open_file

        return PacedVideo(lambda: open_file(address), loop=spec["loop"])
    from edge_runtime.sources.capture.streams import open_stream

    if kind == "http":
        from edge_runtime.sources.capture.http_camera import open_http

        # A server of one client at a time needs a moment to notice that the first request is closed.
        return open_http(address, spec["fps"], take_warnings) or open_stream(address, spec["threads"], _PATIENCE_S)
    return open_stream(address, spec["threads"])


Send = Callable[[Message], None]

_FRAME_IS_THERE = Wake()
_FRAME_LINE = encode(_FRAME_IS_THERE)


def main() -> None:
    """Capture until the source ends or this process is killed."""
    for number in (signal.SIGINT, signal.SIGTERM):
        # Sent to a whole service or terminal: the parent decides when the capture ends.
        signal.signal(number, signal.SIG_IGN)
    spec = json.load(sys.stdin)
    channel = socket.socket(fileno=spec["channel"])
    writer = FrameWriter(spec["frames"])
    # A broken channel means that the parent is gone.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError), NativeWarnings() as warnings:
        run(spec, writer, _sender(channel), warnings.take)


def run(spec: Mapping[str, Any], writer: FrameWriter, send: Send, take_warnings: Callable[[], str]) -> None:
    """Open a camera and publish its frames until it fails; the failure is the last message.

    Args:
        spec: Fields of `open_camera`; also ``number`` of the first frame, and ``time_s`` and ``epoch_s``, the start of
            the source's clock: seconds into a video, and `time.perf_counter` at its first live frame or None.
        writer: Destination of the frames.
        send: Function that sends a message to the parent.
        take_warnings: Warnings of native libraries since the last call, see `decode_jpeg`.
    """
    import cv2

    cv2.setNumThreads(1)
    try:
        camera = open_camera(spec, take_warnings)
        with contextlib.closing(camera):
            send(Opened(camera.note))
            _capture(camera, spec, writer, send)
    except CameraGoneError as error:
        send(Failure(str(error), error.kind))
    except SourceError as error:
        send(Failure(str(error), FailureKind.FATAL))
    except cv2.error as error:
        send(Failure(f"OpenCV failed ({error.err})"))


def _capture(camera: Camera, spec: Mapping[str, Any], writer: FrameWriter, send: Send) -> None:
    number, epoch_s = spec["number"], spec["epoch_s"]
    while True:
        try:
            grab = camera.read()
        except ImageError as error:
            send(Wake(str(error)))
            grab = None
        if grab is not None:
            epoch_s = grab.started_s if epoch_s is None else epoch_s
            _publish(grab, number, spec["time_s"], epoch_s, writer)
            send(_FRAME_IS_THERE)
        number += 1


def _publish(grab: Grab, number: int, offset_s: float, epoch_s: float, writer: FrameWriter) -> None:
    height, width = grab.pixels.shape[:2]
    _to_rgb(grab, writer.slot(height, width))
    now_s = time.perf_counter()
    writer.publish(
        (height, width),
        number,
        is_live=grab.position_s is None,
        time_s=grab.started_s - epoch_s if grab.position_s is None else offset_s + grab.position_s,
        started_s=grab.started_s,
        decode_ms=(now_s - grab.started_s) * 1e3,
    )


def _to_rgb(grab: Grab, slot: Any) -> None:
    import cv2
    import numpy as np

    if grab.pixels.dtype != np.uint8 or grab.pixels.ndim not in (2, 3):
        raise SourceError(f"gives pixels of type {grab.pixels.dtype} {list(grab.pixels.shape)}, expected 8 bits")
    channels = 1 if grab.pixels.ndim == 2 else grab.pixels.shape[2]
    if grab.is_rgb:
        np.copyto(slot, grab.pixels)
    elif channels == 1:
        cv2.cvtColor(grab.pixels, cv2.COLOR_GRAY2RGB, dst=slot)
    elif channels == 3:
        cv2.cvtColor(grab.pixels, cv2.COLOR_BGR2RGB, dst=slot)
    elif channels == 4:
        cv2.cvtColor(grab.pixels, cv2.COLOR_BGRA2RGB, dst=slot)
    else:
        raise SourceError(f"gives images of {channels} channels, expected 3; ask for another --pixel-format")


def _sender(channel: socket.socket) -> Send:
    def send(message: Message) -> None:
        if message == _FRAME_IS_THERE:
            # Full: the parent has unread lines already.
            with contextlib.suppress(BlockingIOError):
                channel.send(_FRAME_LINE, socket.MSG_DONTWAIT)
        else:
            channel.sendall(encode(message))

    return send
