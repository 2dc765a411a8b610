"""Open the frame source that a --source argument names."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from edge_runtime.errors import UsageError
from edge_runtime.image_files import is_image_name
from edge_runtime.platform.net import check_credentials_encoded
from edge_runtime.sources.base import CaptureOptions, FrameSource
from edge_runtime.text import hide_secrets

_SCHEMES = ("rtsp", "rtsps", "rtmp", "rtmps", "http", "https", "udp", "tcp")
_AV_LOG_QUIET = "-8"
_FOURCC_BY_NAME = {"mjpeg": "MJPG", "mjpg": "MJPG", "grey": "GREY", "gray": "GREY", "yuv420": "YU12", "rgb": "RGB3"}
_V4L2_HINT = (
    "check that it is plugged in, that ls /dev/video* lists it, that no other program uses it, "
    "and that you are in the group video"
)
_STREAM_HINT = "check the address, user name and password, and that the camera can be reached from this machine"
_PICAMERA_HINT = "check its cable and that rpicam-hello --list-cameras lists it"


def open_source(text: str, options: CaptureOptions | None = None) -> FrameSource:
    """Open a video file, or prepare a camera or stream, which opens when its first frame is requested.

    Args:
        text: ``0`` or ``/dev/video0`` (also ``/dev/v4l/by-id/...``) for a V4L2 camera, ``picamera`` or ``picamera:1``
            for one at the CSI port, ``rtsp://`` or ``http://`` for a stream, else a video file.
        options: Options of the source; None for the defaults.

    Raises:
        UsageError: The kind of source is not supported, or does not have an option.
        SourceError: The file cannot be read.
    """
    options = options or CaptureOptions()
    if not text:
        raise UsageError("--source: expected a camera as 0 or /dev/video0, an address or a video file, got nothing")
    # FFmpeg inside OpenCV reads this on first use; its messages name no file and repeat our error.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", _AV_LOG_QUIET)
    scheme = re.match(r"([A-Za-z]+)://", text)
    if scheme:
        return _stream(text, scheme[1].lower(), options)
    if re.fullmatch("[0-9]{1,4}", text) or text.startswith("/dev/"):
        _refuse(text, options, "realtime", "loop")
        return _live(text, "v4l2", int(text) if text.isdecimal() else text, _V4L2_HINT, options)
    if picamera := re.fullmatch(r"picamera(?::(\d{1,2}))?", text):
        _refuse(text, options, "realtime", "loop", "pixel_format")
        return _live(text, "picamera", int(picamera[1] or 0), _PICAMERA_HINT, options)
    return _video(Path(text), options)


def _stream(text: str, scheme: str, options: CaptureOptions) -> FrameSource:
    check_credentials_encoded("--source", text)
    name = hide_secrets(text)
    if scheme not in _SCHEMES:
        raise UsageError(f"--source {name}: expected an address that begins with {'://, '.join(_SCHEMES)}://")
    is_http = scheme in ("http", "https")
    _refuse(name, options, "realtime", "loop", "size_wh", "pixel_format", *([] if is_http else ["fps"]))
    return _live(name, "http" if is_http else "stream", text, _STREAM_HINT, options)


def _video(path: Path, options: CaptureOptions) -> FrameSource:
    if is_image_name(path) and path.suffix.lower() != ".gif":
        raise UsageError(f"--source {path}: is an image; use edge-run classify for images")
    _refuse(str(path), options, "size_wh", "fps", "pixel_format")
    from edge_runtime.sources.video import VideoFile

    video = VideoFile(path, loop=options.loop)
    if not options.realtime:
        return video
    video.close()
    return _live(str(path), "file", str(path.absolute()), "try it as H.264 in .mp4", options)


def _live(name: str, kind: str, address: int | str, hint: str, options: CaptureOptions) -> FrameSource:
    from edge_runtime.sources.live import LiveSource

    spec: dict[str, Any] = {"kind": kind, "address": address, "loop": options.loop}
    spec |= {"size_wh": options.size_wh, "fps": options.fps, "pixel_format": _fourcc(options.pixel_format)}
    return LiveSource(name, spec, hint, options)


def _fourcc(name: str | None) -> str | None:
    """Return the four letters of a pixel format: ``MJPG`` for ``mjpeg``, ``YUYV`` for ``yuyv``."""
    if name is None:
        return None
    fourcc = _FOURCC_BY_NAME.get(name.lower(), name.upper())
    if not re.fullmatch(r"[A-Z0-9]{2,4}", fourcc):
        raise UsageError(f"--pixel-format {name}: expected a name such as mjpeg, yuyv or nv12, at most four letters")
    return fourcc.ljust(4)


def _refuse(name: str, options: CaptureOptions, *fields: str) -> None:
    """Raise UsageError if one of these options was given: this kind of source has none of them."""
    for field in fields:
        if getattr(options, field):
            kind = "a video file" if field in ("realtime", "loop") else "a camera at this machine"
            option = field.removesuffix("_wh").replace("_", "-")
            raise UsageError(f"--{option} is for {kind}, not for --source {name}")
