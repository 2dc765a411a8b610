"""Result records of the pipelines, one per image or frame, and their JSON form."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any, TypeAlias

from edge_runtime.errors import EdgeKitError

_SCORE_DIGITS = 6
_MS_DIGITS = 3


@dataclass(frozen=True)
class Prediction:
    """One label and its probability 0..1."""

    label: str
    score: float


@dataclass(frozen=True)
class LatencyMs:
    """Milliseconds that each stage took: decode to RGB, crop and resize, run and rank."""

    decode: float
    preprocess: float
    invoke: float

    @property
    def total(self) -> float:
        """All stages, in milliseconds."""
        return self.decode + self.preprocess + self.invoke


@dataclass(frozen=True)
class FrameStamp:
    """Where a frame stands in its video or camera stream.

    Attributes:
        number: Counted from 0 over all frames of the source, so that a gap shows frames that were skipped.
        time_s: Seconds from the start of the video, or since the camera's first frame.
        captured_at: Unix time of a live frame in seconds; None for a frame from a file.
        age_ms: Milliseconds from having the frame (live) or starting to read it (file) to its answer.
    """

    number: int
    time_s: float
    captured_at: float | None
    age_ms: float


@dataclass(frozen=True)
class Decision:
    """What the recent frames of a camera say together.

    Attributes:
        label: The label that they agree on; None where they do not, where the score is under the threshold, or where
            the label is one to be ignored.
        score: Of that label, or of the strongest one where there is none, 0..1, smoothed.
        event: Whether this frame begins something: another label than before, or one that was gone for a while.
    """

    label: str | None
    score: float
    event: bool


@dataclass(frozen=True)
class Classified:
    """An answer.

    Attributes:
        source: The path as it was found (undecodable bytes as surrogates), or the name of the video source.
        top: Predictions, the answer first; at least one.
        latency_ms: What each stage took.
        frame: For a frame of a video or camera.
        decision: For a frame, what it and those before it say together.
        rejected: Whether the score is under the model's reject threshold: it may be none of the classes.
    """

    source: str
    top: tuple[Prediction, ...]
    latency_ms: LatencyMs
    frame: FrameStamp | None = None
    decision: Decision | None = None
    rejected: bool = False


@dataclass(frozen=True)
class Failed:
    """An input that could not be classified, by the name of its error class and one sentence."""

    source: str
    error_type: str
    message: str

    @staticmethod
    def of(source: str, error: EdgeKitError) -> Failed:
        """The record of an error that concerns one input."""
        return Failed(source, type(error).__name__, str(error))


class SourceState(str, enum.Enum):
    """How a camera or stream is."""

    CONNECTED = "connected"  # its frames come
    STALLED = "stalled"  # it is open and gives nothing
    RECONNECTING = "reconnecting"  # it is being opened again, with a growing pause between attempts
    ENDED = "ended"  # it will give nothing more


@dataclass(frozen=True)
class StateChange:
    """A camera or stream that came or went.

    Attributes:
        source: Name of the video source.
        state: What it is from now on.
        at: Unix time in seconds.
        reason: Why, in a few words; None where there is nothing to say.
    """

    source: str
    state: SourceState
    at: float
    reason: str | None = None


Result: TypeAlias = Classified | Failed | StateChange


def to_record(result: Result) -> dict[str, Any]:
    """The JSON form of a result: scores 0..1 to 6 digits, times in milliseconds to 3."""
    if isinstance(result, StateChange):
        state = {"source": result.source, "state": result.state.value, "at": round(result.at, _MS_DIGITS)}
        return {**state, "reason": result.reason} if result.reason else state
    if isinstance(result, Failed):
        return {"source": result.source, "error": {"type": result.error_type, "message": result.message}}
    top = [{"label": prediction.label, "score": round(prediction.score, _SCORE_DIGITS)} for prediction in result.top]
    latency_ms = {
        "decode": round(result.latency_ms.decode, _MS_DIGITS),
        "preprocess": round(result.latency_ms.preprocess, _MS_DIGITS),
        "invoke": round(result.latency_ms.invoke, _MS_DIGITS),
    }
    record = {"source": result.source, **_frame_record(result.frame), **top[0], "top": top}
    if result.rejected:
        record["rejected"] = True
    if result.decision:
        decision = result.decision
        score = round(decision.score, _SCORE_DIGITS)
        record["decision"] = {"label": decision.label, "score": score, "event": decision.event}
    return {**record, "latency_ms": latency_ms}


def _frame_record(frame: FrameStamp | None) -> dict[str, Any]:
    if frame is None:
        return {}
    live = {} if frame.captured_at is None else {"captured_at": round(frame.captured_at, _MS_DIGITS)}
    return {
        "frame": frame.number,
        "time_s": round(frame.time_s, _MS_DIGITS),
        **live,
        "age_ms": round(frame.age_ms, _MS_DIGITS),
    }
