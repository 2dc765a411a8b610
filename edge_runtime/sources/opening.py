"""Which source is meant by what the user typed."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from edge_runtime.errors import UsageError
from edge_runtime.sources.frames import Capture, FrameSource
from edge_runtime.sources.images import is_image_name

if TYPE_CHECKING:
    from edge_runtime.sources.live import LiveSource

_SCHEMES = ("rtsp", "rtsps", "rtmp", "http", "https", "udp", "tcp")
_NETWORK_TIMEOUT_MS = 5000
_AV_LOG_QUIET = "-8"


def open_source(text: str) -> FrameSource:
    """Open a video file, or prepare a camera or stream, which opens when its frames are asked for.

    Args:
        text: ``0`` or ``/dev/video0`` for a V4L2 camera, ``rtsp://`` or ``http://`` for a stream, else a video file.

    Raises:
        UsageError: A kind of source that is not supported.
        SourceError: A file that cannot be read.
    """
    # FFmpeg inside OpenCV reads this when it is first used; its messages name no file and repeat our error.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", _AV_LOG_QUIET)
    scheme = re.match(r"([a-z]+)://", text)
    if scheme and scheme[1] not in _SCHEMES:
        raise UsageError(f"--source {text}: expected an address that begins with {'://, '.join(_SCHEMES)}://")
    if scheme:
        return _stream(text)
    if text.isdecimal() or re.fullmatch(r"/dev/video\d+", text):
        return _v4l2(text)
    if text == "picamera":
        raise UsageError(
            "--source picamera is not supported yet; a Raspberry Pi camera also answers as --source 0 "
            "when the command is started as: libcamerify edge-run camera ..."
        )
    if is_image_name(Path(text)) and Path(text).suffix.lower() != ".gif":
        raise UsageError(f"--source {text}: is a picture; use edge-run classify for pictures")
    from edge_runtime.sources.video import VideoFile

    return VideoFile(Path(text))


def _v4l2(text: str) -> LiveSource:
    index = int(text.removeprefix("/dev/video"))
    hint = (
        "check that it is plugged in, that ls /dev/video* lists it, that no other program uses it, "
        "and that you are in the group video"
    )

    def open_capture() -> Capture:
        import cv2

        return cv2.VideoCapture(index, cv2.CAP_V4L2)

    return _live(text, open_capture, hint)


def _stream(address: str) -> LiveSource:
    hint = "check the address, user name and password, and that the camera can be reached from this machine"

    def open_capture() -> Capture:
        import cv2

        timeouts = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _NETWORK_TIMEOUT_MS]
        timeouts += [cv2.CAP_PROP_READ_TIMEOUT_MSEC, _NETWORK_TIMEOUT_MS]
        return cv2.VideoCapture(address, cv2.CAP_FFMPEG, timeouts)

    return _live(without_password(address), open_capture, hint)


def without_password(address: str) -> str:
    """An address as it may be printed: ``rtsp://user:***@host/`` for one with a password."""
    return re.sub(r"(?<=://)([^/@:]*):[^/]*@", r"\1:***@", address)


def _live(name: str, open_capture: Callable[[], Capture], hint: str) -> LiveSource:
    from edge_runtime.sources.live import LiveSource

    return LiveSource(name, open_capture, hint)
