"""What a capturing child process reads from: one small interface over cameras, streams and videos."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from edge_runtime.sources.capture.messages import FailureKind


@dataclass(frozen=True)
class Grab:
    """One picture as it came.

    Attributes:
        started_s: `time.perf_counter` when it was there.
        pixels: uint8 [height, width, 3] or [height, width].
        is_rgb: Whether its channels are red, green, blue; else blue, green, red.
        position_s: Seconds from the start, for a video file; None for what is live.
    """

    started_s: float
    pixels: Any
    is_rgb: bool = False
    position_s: float | None = None


class Camera(Protocol):
    """A camera, stream or video that is open."""

    note: str | None
    """What it gives instead of what was asked for, or None."""

    def read(self) -> Grab | None:
        """Wait for the next picture; None where one was skipped.

        Raises:
            CameraGoneError: It gives no more.
            ImageError: A picture came damaged; the next one may be whole.
        """
        ...

    def close(self) -> None:
        """Release it."""
        ...


class CameraGoneError(Exception):
    """It cannot be opened, or gives no more pictures. `child.py` tells the parent."""

    def __init__(self, reason: str, kind: FailureKind = FailureKind.LOST) -> None:
        super().__init__(reason)
        self.kind = kind
