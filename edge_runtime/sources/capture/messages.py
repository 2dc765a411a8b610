"""What a capturing child tells its parent: lines of JSON on a socket; an empty line says that a frame is there."""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass
from typing import TypeAlias

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
    """A frame was published, or, with a complaint, a picture came that cannot be used."""

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
