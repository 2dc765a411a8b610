"""Protocol of sinks, and a filter that passes only news."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from edge_runtime.pipeline.health import Monitored
from edge_runtime.results import Classified, Result

if TYPE_CHECKING:
    from edge_runtime.preprocess import ImageU8


class Sink(Protocol):
    """A receiver of results, which writes each at once, so that the reader of a pipe sees it."""

    def write(self, result: Result, image_hwc_rgb_u8: ImageU8 | None = None) -> None:
        """Write one result.

        Args:
            result: Predictions, a failure, or a change of the camera's state.
            image_hwc_rgb_u8: The whole frame, uint8 [height, width, 3] RGB, or None. It is valid only during the
                call, because the camera overwrites it: a sink that needs it longer copies it.

        Raises:
            BrokenPipeError: The reader has closed the pipe.
            OSError: The output cannot be written, for example to a full disk.
        """
        ...

    def close(self) -> None:
        """Write what is still held and release the output; calling it again does nothing."""
        ...

    def __enter__(self) -> Sink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@runtime_checkable
class MonitoredSink(Sink, Monitored, Protocol):
    """A sink that survives its own errors, so that a full disk or a lost broker does not stop a camera.

    Its ``write`` returns at once and raises nothing.
    """


def is_news(result: Result) -> bool:
    """Tell whether a result is a failure, a change of state, or the start of a new decision (an event)."""
    if isinstance(result, Classified):
        return result.decision is not None and result.decision.event
    return True


class NewsOnly(Sink):
    """A filter that passes only news to another sink; see `is_news`."""

    def __init__(self, inner: Sink) -> None:
        self._inner = inner

    def write(self, result: Result, image_hwc_rgb_u8: ImageU8 | None = None) -> None:
        """Pass the result on if it is news; see `Sink.write`."""
        if is_news(result):
            self._inner.write(result, image_hwc_rgb_u8)

    def close(self) -> None:
        """Close the other sink."""
        self._inner.close()
