"""Frames of a video or camera, for freshness: one at a time, and from a live source always the newest."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

from edge_runtime.pipeline.stages import classify_image
from edge_runtime.results import Classified, FrameStamp, LatencyMs
from edge_runtime.sources.frames import FrameSource

if TYPE_CHECKING:
    from edge_runtime.classifier import Classifier

_RECENT = 1000


def classify_frames(source: FrameSource, classifier: Classifier, *, top_k: int) -> Iterator[Classified]:
    """Classify frames until the source ends.

    Raises:
        SourceError: The source cannot be opened or read, or has stopped giving frames.
        EngineError: The runtime failed.
    """
    for frame in source.frames():
        top, preprocess_ms, invoke_ms = classify_image(classifier, frame.image_hwc_rgb_u8, top_k)
        age_ms = (time.perf_counter() - frame.started_s) * 1e3
        stamp = FrameStamp(frame.number, frame.time_s, frame.captured_at, age_ms)
        yield Classified(source.name, top, LatencyMs(frame.decode_ms, preprocess_ms, invoke_ms), stamp)


class FrameTally:
    """What is said at the end of a run: answers, their rate, frames skipped, and the median age of recent answers."""

    def __init__(self) -> None:
        self.answered = 0
        self._last_number = -1
        self._first_s = self._last_s = 0.0
        self._recent_ages_ms: deque[float] = deque(maxlen=_RECENT)

    def add(self, frame: FrameStamp) -> None:
        """Count the answer to a frame."""
        self._last_s = time.perf_counter()
        # The clock starts one answer's age before the first answer, when its frame was there.
        self._first_s = self._first_s or self._last_s - frame.age_ms / 1e3
        self._last_number = frame.number
        self._recent_ages_ms.append(frame.age_ms)
        self.answered += 1

    def __str__(self) -> str:
        if not self.answered:
            return "no frames"
        seconds = max(self._last_s - self._first_s, 1e-9)
        skipped = self._last_number + 1 - self.answered
        ages_ms = sorted(self._recent_ages_ms)
        return (
            f"{self.answered} frame{'' if self.answered == 1 else 's'} in {seconds:.1f} s "
            f"({self.answered / seconds:.1f}/s), {f'{skipped} skipped, ' if skipped else ''}"
            f"p50 latency {ages_ms[len(ages_ms) // 2]:.1f} ms"
        )
