"""Classify the frames of a video or camera one at a time; a live source skips to its newest frame."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeAlias

from edge_runtime.pipeline.decide import Decider
from edge_runtime.results import Classified, FrameStamp, LatencyMs, SourceState, StateChange
from edge_runtime.sources.base import Frame, FrameSource

if TYPE_CHECKING:
    from edge_runtime.classifier import Classifier
    from edge_runtime.preprocess import ImageU8


FrameResult: TypeAlias = "tuple[Classified | StateChange, ImageU8 | None]"
"""Answer with its frame (uint8 [height, width, 3] RGB, valid until the next result), or a change of the source."""


def classify_frames(
    source: FrameSource,
    classifier: Classifier,
    decider: Decider | None = None,
    *,
    top_k: int = 3,
    until_s: float | None = None,
) -> Iterator[FrameResult]:
    """Classify frames until the source ends.

    Args:
        source: Source of the frames.
        classifier: Classifier to run on each frame.
        decider: Decisions over several frames; None takes `Decider.of` the classifier.
        top_k: Number of predictions for each frame.
        until_s: Deadline by `time.perf_counter`, in seconds; None for no limit.

    Raises:
        SourceError: The source cannot be opened or read.
        EngineError: The runtime failed.
    """
    decider = decider or Decider.of(classifier)
    for item in source.frames(until_s):
        if isinstance(item, StateChange):
            if item.state is not SourceState.CONNECTED:
                decider.forget()
            yield item, None
        else:
            yield _classify(item, source.name, classifier, decider, top_k), item.image_hwc_rgb_u8


def _classify(frame: Frame, source_name: str, classifier: Classifier, decider: Decider, top_k: int) -> Classified:
    started_s = time.perf_counter()
    prepared = classifier.prepare(frame.image_hwc_rgb_u8)
    prepared_s = time.perf_counter()
    probabilities = classifier.probabilities(prepared)
    top = tuple(classifier.rank(probabilities, top_k))
    decision = decider.decide(probabilities, frame.time_s)
    ended_s = time.perf_counter()
    latency_ms = LatencyMs(frame.decode_ms, (prepared_s - started_s) * 1e3, (ended_s - prepared_s) * 1e3)
    stamp = FrameStamp(frame.number, frame.time_s, frame.captured_at, (ended_s - frame.started_s) * 1e3)
    return Classified(source_name, top, latency_ms, stamp, decision, classifier.is_rejected(top))
