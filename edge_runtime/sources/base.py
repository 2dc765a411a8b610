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
        number: Counted from 0 over all frames of the source, also those that nobody took, and on through reconnects.
        time_s: Seconds from the start of the video, or since the camera's first frame.
        captured_at: Unix time in seconds of a live frame; None for a file, also one played in real time.
        started_s: `time.perf_counter` when it was grabbed (live) or when reading began (file). On Linux this clock is
            the same in every process and never jumps.
        decode_ms: Milliseconds from compressed or YUV to RGB.
        image_hwc_rgb_u8: uint8 [height, width, 3], RGB. Lent until the next frame is asked for.
    """

    number: int
    time_s: float
    captured_at: float | None
    started_s: float
    decode_ms: float
    image_hwc_rgb_u8: ImageU8


class FrameSource(Protocol):
    """Gives frames until it ends, fails or is closed."""

    name: str
    """As results call it: what the user typed, without a password."""

    live: bool
    """Whether frames come by themselves, so that waiting loses some."""

    def frames(self, until_s: float | None = None) -> Iterator[Frame | StateChange]:
        """Yield frames in order; a live source also yields when it comes and goes.

        Args:
            until_s: When to end, by `time.perf_counter`; None goes on for ever. It also ends a wait for a camera that
                gives nothing.

        Raises:
            SourceError: It cannot be opened or read.
        """
        ...

    def close(self) -> None:
        """Release the device or file; calling it again does nothing."""
        ...

    def __enter__(self) -> FrameSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True)
class CaptureOptions:
    """How a camera, stream or video is opened.

    Attributes:
        size_wh: Width and height in pixels to ask a camera for; None takes its default.
        fps: Frames per second to ask a camera for; None takes its default. Also how often an HTTP camera of single
            JPEGs is asked, 2 by default.
        pixel_format: ``mjpeg``, ``yuyv`` ... to ask a V4L2 camera for; None takes its default.
        realtime: Whether a video file is played at its own pace, and frames are skipped as those of a camera.
        loop: Whether a video file starts again at its end.
        wait: Whether a camera that is not there at the start is waited for.
        open_timeout_s: How long opening and the first frame may take together, in seconds.
        stall_timeout_s: How long an open camera may give no frame before it is opened again, in seconds.
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
    """The part of ``cv2.VideoCapture`` that is used, so that tests can give a fake one."""

    def isOpened(self) -> bool: ...  # noqa: D102, N802

    def grab(self) -> bool: ...  # noqa: D102

    def retrieve(self) -> tuple[bool, Any]: ...  # noqa: D102

    def get(self, propId: int) -> float: ...  # noqa: D102, N803

    def release(self) -> None: ...  # noqa: D102
