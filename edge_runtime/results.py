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
    """Duration of each stage, in milliseconds: decode to RGB, crop and resize, run and rank."""

    decode: float
    preprocess: float
    invoke: float

    @property
    def total(self) -> float:
        """All stages, in milliseconds."""
        return self.decode + self.preprocess + self.invoke


@dataclass(frozen=True)
class FrameStamp:
    """Position of a frame in its video or camera stream.

    Attributes:
        number: Index from 0 over all frames of the source; a gap shows skipped frames.
        time_s: Seconds from the start of the video, or since the camera's first frame.
        captured_at: Unix time of a live frame in seconds; None for a frame from a file.
        age_ms: Milliseconds from receiving the frame (live) or starting to read it (file) to its answer.
    """

    number: int
    time_s: float
    captured_at: float | None
    age_ms: float


@dataclass(frozen=True)
class Decision:
    """Label decided from the recent frames of a camera.

    Attributes:
        label: Label that the frames agree on; None if they do not, if the score is below the threshold, or if the
            label is ignored.
        score: Smoothed score of that label, else of the strongest label, 0..1.
        event: True if this frame starts something: another label than before, or one that was absent for a while.
    """

    label: str | None
    score: float
    event: bool


@dataclass(frozen=True)
class Classified:
    """Result of one classified image or frame.

    Attributes:
        source: Path as it was found (undecodable bytes as surrogates), or name of the video source.
        top: One or more predictions, the answer first.
        latency_ms: Duration of each stage, in milliseconds.
        frame: Position of a video or camera frame; None for an image.
        decision: Decision from this frame and those before it, or None.
        rejected: True if the score is below the model's reject threshold, so that it may be none of the classes.
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
        """Make the record of an error that concerns one input."""
        return Failed(source, type(error).__name__, str(error))


class SourceState(str, enum.Enum):
    """State of a camera or stream."""

    CONNECTED = "connected"  # delivers frames
    STALLED = "stalled"  # open, but delivers no frames
    RECONNECTING = "reconnecting"  # being opened again, with a growing pause between attempts
    ENDED = "ended"  # will deliver no more frames


@dataclass(frozen=True)
class StateChange:
    """Change of the state of a camera or stream.

    Attributes:
        source: Name of the video source.
        state: State from now on.
        at: Unix time of the change, in seconds.
        reason: Short reason, or None.
    """

    source: str
    state: SourceState
    at: float
    reason: str | None = None


Result: TypeAlias = Classified | Failed | StateChange


def to_record(result: Result) -> dict[str, Any]:
    """Convert a result to its JSON form: scores 0..1 to 6 digits, times in milliseconds to 3."""
    if isinstance(result, StateChange):
        state = {"source": result.source, "state": result.state.value, "at": round(result.at, _MS_DIGITS)}
        return {**state, "reason": result.reason} if result.reason else state
    if isinstance(result, Failed):
        return {"source": result.source, "error": {"type": result.error_type, "message": result.message}}
    top = [{"label": prediction.label, "score": round(prediction.score, _SCORE_DIGITS)} for prediction in result.top]
    stages = ("decode", "preprocess", "invoke")
    latency_ms = {stage: round(getattr(result.latency_ms, stage), _MS_DIGITS) for stage in stages}
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
    time_s, age_ms = round(frame.time_s, _MS_DIGITS), round(frame.age_ms, _MS_DIGITS)
    return {"frame": frame.number, "time_s": time_s, **live, "age_ms": age_ms}
