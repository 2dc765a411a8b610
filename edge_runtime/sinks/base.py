"""The sink protocol, and a filter that passes only news."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from edge_runtime.pipeline.health import Monitored
from edge_runtime.results import Classified, Result

if TYPE_CHECKING:
    from edge_runtime.preprocess import ImageU8


class Sink(Protocol):
    """Takes results one by one and passes each on at once, so that a reader at a pipe's other end sees it."""

    def write(self, result: Result, image_hwc_rgb_u8: ImageU8 | None = None) -> None:
        """Pass one result on.

        Args:
            result: An answer, a failure, or a camera that came or went.
            image_hwc_rgb_u8: The whole frame, uint8 [height, width, 3] RGB, or None. It is lent for the length of the
                call: the camera will overwrite it, so a sink that needs it longer copies it.

        Raises:
            BrokenPipeError: Nobody reads any more.
            OSError: The place cannot be written, for example a full disk.
        """
        ...

    def close(self) -> None:
        """Pass on what is still held and let go of the place; calling it again does nothing."""
        ...

    def __enter__(self) -> Sink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@runtime_checkable
class MonitoredSink(Sink, Monitored, Protocol):
    """A sink that goes on through trouble of its own: a full disk or a broker that is away must not stop a camera.

    Its ``write`` returns at once and raises nothing.
    """


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
