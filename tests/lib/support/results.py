"""Results as a camera or folder gives them."""

from edge_runtime.results import Classified, Decision, FrameStamp, LatencyMs, Prediction

AT_S = 1700000000.5
"""Capture time of frames, in seconds since 1970."""


def classified(
    label="cat",
    score=0.9,
    *,
    source="cam",
    number=0,
    at=AT_S,
    age_ms=5.0,
    latency=LatencyMs(1.0, 1.0, 2.0),  # noqa: B008  immutable
    decision=None,
    rejected=False,
    others=(Prediction("dog", 0.1),),  # noqa: B008  immutable
):
    """Make the answer to one frame; ``number`` None for an image file, which has no frame stamp."""
    frame = None if number is None else FrameStamp(number, 0.0, at, age_ms)
    return Classified(source, (Prediction(label, score), *others), latency, frame, decision, rejected)


def decided(label="cat", score=0.9, *, event=False, **options):
    """Make an answer with a decision; a label of None is a decision for none of the labels."""
    return classified(label or "cat", score, decision=Decision(label, score, event), **options)
