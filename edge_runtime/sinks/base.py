"""Protocol of sinks, a filter that passes only news, and helpers that several sinks share."""

from __future__ import annotations

import time
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

    def __exit__(self, *_: object) -> None:
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


def capture_time(result: Classified) -> float:
    """Return the capture time of a result's frame in Unix seconds; the current time for an image or video file."""
    captured_at = result.frame.captured_at if result.frame else None
    return time.time() if captured_at is None else captured_at


def encode_jpeg(image_hwc_rgb_u8: ImageU8, quality: int = 80) -> bytes:
    """Encode an image, uint8 [height, width, 3] RGB, as JPEG.

    Args:
        image_hwc_rgb_u8: Image of at least one pixel.
        quality: JPEG quality, 0..100.

    Raises:
        ValueError: The image cannot be encoded.
    """
    import cv2

    try:
        image_hwc_bgr_u8 = cv2.cvtColor(image_hwc_rgb_u8, cv2.COLOR_RGB2BGR)
        encoded, data = cv2.imencode(".jpg", image_hwc_bgr_u8, [cv2.IMWRITE_JPEG_QUALITY, quality])
    except cv2.error as error:
        raise ValueError(f"a frame of shape {image_hwc_rgb_u8.shape} cannot be encoded ({error.err})") from error
    if not encoded:
        raise ValueError(f"a frame of shape {image_hwc_rgb_u8.shape} cannot be encoded")
    return data.tobytes()
