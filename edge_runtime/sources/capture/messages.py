"""Messages of the capture process, and the camera interface inside it."""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

_REASON_LENGTH = 300


class FailureKind(str, enum.Enum):
    """Whether another attempt makes sense."""

    LOST = "lost"  # it cannot be opened or read now; later perhaps
    SLOW = "slow"  # with one thread for decoding it cannot keep up
    ENDED = "ended"  # the end of a video
    FATAL = "fatal"  # something to be changed by the user first


@dataclass(frozen=True)
class Opened:
    """It is open; ``note`` says what it gives instead of what was asked for."""

    note: str | None = None


@dataclass(frozen=True)
class Wake:
    """A frame was published, or, with a complaint, an image came that cannot be used."""

    complaint: str | None = None


@dataclass(frozen=True)
class Failure:
    """No more frames, and why, as a part of a sentence that follows the source's name."""

    reason: str
    kind: FailureKind = FailureKind.LOST


Message: TypeAlias = Opened | Wake | Failure


def encode(message: Message) -> bytes:
    """One line."""
    if isinstance(message, Failure):
        return _line({"failure": message.reason[:_REASON_LENGTH], "kind": message.kind.value})
    if isinstance(message, Opened):
        return _line({"opened": message.note})
    return _line({"wake": message.complaint[:_REASON_LENGTH]}) if message.complaint else b"\n"


def decode(line: bytes) -> Message:
    """The message of a line without its end."""
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
    """One image as it came.

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
        """Wait for the next image; None where one was skipped.

        Raises:
            CameraGoneError: It gives no more.
            ImageError: An image came damaged; the next one may be whole.
        """
        ...

    def close(self) -> None:
        """Release it."""
        ...


class CameraGoneError(Exception):
    """It cannot be opened, or gives no more images. `child.py` tells the parent."""

    def __init__(self, reason: str, kind: FailureKind = FailureKind.LOST) -> None:
        super().__init__(reason)
        self.kind = kind
