"""What a source of frames looks like, and the small part of ``cv2.VideoCapture`` that is used."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from edge_runtime.preprocess import ImageU8


@dataclass(frozen=True)
class Frame:
    """One picture of a video or camera.

    Attributes:
        number: Counted from 0 over all frames of the source, also those that nobody took.
        time_s: Seconds from the start of the video, or since the camera's first frame.
        captured_at: Unix time in seconds of a live frame; None for a file.
        started_s: `time.perf_counter` when it was grabbed (live) or when reading began (file).
        decode_ms: Milliseconds from compressed or YUV to RGB.
        image_hwc_rgb_u8: uint8 [height, width, 3], RGB.
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
    """As results call it: what the user typed."""

    live: bool
    """Whether frames come by themselves, so that waiting loses some."""

    def frames(self) -> Iterator[Frame]:
        """Yield frames in order.

        Raises:
            SourceError: It cannot be opened or read, or has stopped giving frames.
        """
        ...

    def close(self) -> None:
        """Release the device or file; calling it again does nothing."""
        ...


class Capture(Protocol):
    """The part of ``cv2.VideoCapture`` that is used, so that tests can give a fake one."""

    def isOpened(self) -> bool: ...  # noqa: D102, N802

    def grab(self) -> bool: ...  # noqa: D102

    def retrieve(self) -> tuple[bool, Any]: ...  # noqa: D102

    def get(self, propId: int) -> float: ...  # noqa: D102, N803

    def release(self) -> None: ...  # noqa: D102
