"""Results as a camera or folder gives them."""

from __future__ import annotations

from edge_runtime.results import Classified, Decision, FrameStamp, LatencyMs, Prediction

AT_S = 1700000000.5
"""Capture time of frames, in seconds since 1970."""


def classified(
    label: str = "cat",
    score: float = 0.9,
    *,
    source: str = "cam",
    number: int | None = 0,
    at: float | None = AT_S,
    age_ms: float = 5.0,
    latency: LatencyMs = LatencyMs(1.0, 1.0, 2.0),  # noqa: B008  immutable
    decision: Decision | None = None,
    rejected: bool = False,
    others: tuple[Prediction, ...] = (Prediction("dog", 0.1),),
) -> Classified:
    """Make the answer to one frame; ``number`` None for an image file, which has no frame stamp."""
    frame = None if number is None else FrameStamp(number, 0.0, at, age_ms)
    return Classified(source, (Prediction(label, score), *others), latency, frame, decision, rejected)


def decided(label: str | None = "cat", score: float = 0.9, *, event: bool = False, **options: object) -> Classified:
    """Make an answer with a decision; a label of None is a decision for none of the labels."""
    return classified(label or "cat", score, decision=Decision(label, score, event), **options)  # type: ignore[arg-type]
