"""Frames of a video or camera, and the interface of their sources."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from edge_runtime.results import StateChange

if TYPE_CHECKING:
    from edge_runtime.preprocess import ImageU8


@dataclass(frozen=True)
class Frame:
    """One image of a video or camera.

    Attributes:
        number: Index from 0 over all frames of the source, including skipped ones, continued after reconnects.
        time_s: Seconds from the start of the video, or since the camera's first frame.
        captured_at: Unix time in seconds of a live frame; None for a file, also one played in real time.
        started_s: `time.perf_counter` when it was grabbed (live) or when reading began (file). On Linux this clock is
            the same in every process and never jumps.
        decode_ms: Time of the conversion from compressed or YUV to RGB, in milliseconds.
        image_hwc_rgb_u8: uint8 [height, width, 3], RGB; valid until the next frame is requested.
    """

    number: int
    time_s: float
    captured_at: float | None
    started_s: float
    decode_ms: float
    image_hwc_rgb_u8: ImageU8


class FrameSource(Protocol):
    """Source of frames until it ends, fails or is closed."""

    name: str
    """Name in results: the user's argument, without a password."""

    live: bool
    """True if frames arrive by themselves, so that a slow reader misses some."""

    def frames(self, until_s: float | None = None) -> Iterator[Frame | StateChange]:
        """Yield frames in order; a live source also yields changes of its state.

        Args:
            until_s: Deadline by `time.perf_counter`, in seconds, also for a camera that gives nothing; None for no
                limit.

        Raises:
            SourceError: The source cannot be opened or read.
        """
        ...

    def close(self) -> None:
        """Release the device or file; repeated calls do nothing."""
        ...

    def __enter__(self) -> FrameSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True)
class CaptureOptions:
    """Options of a camera, stream or video.

    Attributes:
        size_wh: Requested width and height in pixels; None for the camera's default.
        fps: Requested frames per second; None for the camera's default. Also the request rate of an HTTP camera that
            sends single JPEGs, 2 by default.
        pixel_format: Requested V4L2 format, such as ``mjpeg`` or ``yuyv``; None for the camera's default.
        realtime: True to play a video file at its own pace and skip frames as with a camera.
        loop: True to start a video file again at its end.
        wait: True to wait for a camera that is missing at the start.
        open_timeout_s: Time limit of opening and the first frame together, in seconds.
        stall_timeout_s: Time without a frame after which an open camera is reopened, in seconds.
    """

    size_wh: tuple[int, int] | None = None
    fps: float | None = None
    pixel_format: str | None = None
    realtime: bool = False
    loop: bool = False
    wait: bool = False
    open_timeout_s: float = 15.0
    stall_timeout_s: float = 5.0


class Capture(Protocol):
    """Methods of ``cv2.VideoCapture`` in use; tests pass a fake."""

    def isOpened(self) -> bool: ...  # noqa: D102, N802

    def grab(self) -> bool: ...  # noqa: D102

    def retrieve(self) -> tuple[bool, Any]: ...  # noqa: D102

    def get(self, propId: int) -> float: ...  # noqa: D102, N803

    def release(self) -> None: ...  # noqa: D102
