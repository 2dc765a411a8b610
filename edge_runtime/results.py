"""What the pipelines give and the sinks write: one record a picture or frame, and its JSON form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from edge_runtime.errors import EdgeKitError

if TYPE_CHECKING:
    from edge_runtime.classifier import Prediction

_SCORE_DIGITS = 6
_MS_DIGITS = 3


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
class Classified:
    """An answer.

    Attributes:
        source: The path as it was found (undecodable bytes as surrogates), or the name of the video source.
        top: Predictions, the answer first; at least one.
        latency_ms: What each stage took.
        frame: For a frame of a video or camera.
    """

    source: str
    top: tuple[Prediction, ...]
    latency_ms: LatencyMs
    frame: FrameStamp | None = None


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


Result: TypeAlias = Classified | Failed


def to_record(result: Result) -> dict[str, Any]:
    """The JSON form of a result: scores 0..1 to 6 digits, times in milliseconds to 3."""
    if isinstance(result, Failed):
        return {"source": result.source, "error": {"type": result.error_type, "message": result.message}}
    top = [{"label": prediction.label, "score": round(prediction.score, _SCORE_DIGITS)} for prediction in result.top]
    latency_ms = {
        "decode": round(result.latency_ms.decode, _MS_DIGITS),
        "preprocess": round(result.latency_ms.preprocess, _MS_DIGITS),
        "invoke": round(result.latency_ms.invoke, _MS_DIGITS),
    }
    record = {"source": result.source, **_frame_record(result.frame), **top[0], "top": top}
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
