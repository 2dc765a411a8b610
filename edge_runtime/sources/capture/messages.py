"""Messages of the capture process, and the camera interface inside it."""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

_REASON_LENGTH = 300


class FailureKind(str, enum.Enum):
    """Kind of a failure, which decides about another attempt."""

    LOST = "lost"  # cannot be opened or read now; another attempt may succeed
    SLOW = "slow"  # one decoding thread cannot keep up
    ENDED = "ended"  # the end of a video
    FATAL = "fatal"  # the user must change something first


@dataclass(frozen=True)
class Opened:
    """The source is open; ``note`` lists settings that differ from the requested ones."""

    note: str | None = None


@dataclass(frozen=True)
class Wake:
    """A frame was published or, with a complaint, an unusable image arrived."""

    complaint: str | None = None


@dataclass(frozen=True)
class Failure:
    """End of the frames; ``reason`` is a clause that follows the source's name."""

    reason: str
    kind: FailureKind = FailureKind.LOST


Message: TypeAlias = Opened | Wake | Failure


def encode(message: Message) -> bytes:
    """Encode a message as one line."""
    if isinstance(message, Failure):
        return _line({"failure": message.reason[:_REASON_LENGTH], "kind": message.kind.value})
    if isinstance(message, Opened):
        return _line({"opened": message.note})
    return _line({"wake": message.complaint[:_REASON_LENGTH]}) if message.complaint else b"\n"


def decode(line: bytes) -> Message:
    """Decode a line without its end."""
    if not line:
        return Wake()
    fields = json.loads(line)
    if "failure" in fields:
        return Failure(fields["failure"], FailureKind(fields["kind"]))
    if "opened" in fields:
        return Opened(fields["opened"])
    return Wake(fields["wake"])


def _line(fields: dict[str, str | None]) -> bytes:
    return json.dumps(fields).encode() + b"\n"


@dataclass(frozen=True)
class Grab:
    """One captured image, before its conversion to RGB.

    Attributes:
        started_s: Time of arrival by `time.perf_counter`, in seconds.
        pixels: uint8 [height, width, 3] or [height, width].
        is_rgb: True for channels in the order red, green, blue; else blue, green, red.
        position_s: Seconds from the start of a video file; None for a live source.
    """

    started_s: float
    pixels: Any
    is_rgb: bool = False
    position_s: float | None = None


class Camera(Protocol):
    """Open camera, stream or video, inside the capture process."""

    note: str | None
    """Settings that differ from the requested ones, or None."""

    def read(self) -> Grab | None:
        """Wait for the next image; None for a skipped one.

        Raises:
            CameraGoneError: The source gives no more images.
            ImageError: The image is damaged; the next one may be intact.
        """
        ...

    def close(self) -> None:
        """Release the device, connection or file."""
        ...


class CameraGoneError(Exception):
    """The source cannot be opened or gives no more images; `child.py` reports it to the parent."""

    def __init__(self, reason: str, kind: FailureKind = FailureKind.LOST) -> None:
        super().__init__(reason)
        self.kind = kind
