"""Only what is news: events, failures, and a camera that came or went."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_runtime.results import Classified, Result
from edge_runtime.sinks.base import Sink

if TYPE_CHECKING:
    from edge_runtime.preprocess import ImageU8


def is_news(result: Result) -> bool:
    """Whether a result is more than one frame of many: an answer is when its decision begins something."""
    if isinstance(result, Classified):
        return result.decision is not None and result.decision.event
    return True


class NewsOnly(Sink):
    """Passes only news to another sink; see `is_news`."""

    def __init__(self, inner: Sink) -> None:
        self._inner = inner

    def write(self, result: Result, image_hwc_rgb_u8: ImageU8 | None = None) -> None:
        """Pass news on, and nothing else; see `Sink.write`."""
        if is_news(result):
            self._inner.write(result, image_hwc_rgb_u8)

    def close(self) -> None:
        """Close the other sink."""
        self._inner.close()
