"""Pass images and events from the camera's thread to the server, and encode each image once for all viewers."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from edge_runtime.results import Classified, Failed, Result, StateChange
from edge_runtime.sinks.base import capture_time, encode_jpeg

if TYPE_CHECKING:
    from edge_runtime.preprocess import ImageU8


IMAGE_INTERVAL_S = 0.1
MAX_IMAGE_WIDTH_PX = 640
_EVENTS = 20
_MAX_AGE_S = 1.0


class LiveFeed:
    """Results from the camera's thread: a counter for each, and a small copy of a frame while a viewer waits.

    Thread-safe.

    Attributes:
        version: Number of results so far; a change tells the server that there is news.
    """

    def __init__(self) -> None:
        self.version = 0
        self._events: deque[dict[str, Any]] = deque(maxlen=_EVENTS)
        self._lock = threading.Lock()
        self._deliver: Callable[[ImageU8], None] | None = None
        self._requested = False
        self._next_image_s = 0.0

    def put(self, result: Result, image_hwc_rgb_u8: ImageU8 | None) -> None:
        """Add a result, and copy its frame (uint8 [height, width, 3], RGB) if an image is requested."""
        event = _event(result)
        if event and not (event.get("error") and self._events and self._events[-1].get("error") == event["error"]):
            self._events.append(event)
        self.version += 1
        if self._requested and image_hwc_rgb_u8 is not None and time.perf_counter() >= self._next_image_s:
            self._requested = False
            self._next_image_s = time.perf_counter() + IMAGE_INTERVAL_S
            small = shrink(image_hwc_rgb_u8)
            with self._lock:
                if self._deliver:
                    self._deliver(small)

    def request_image(self) -> None:
        """Request the next frame."""
        self._requested = True

    def connect(self, deliver: Callable[[ImageU8], None] | None) -> None:
        """Set the receiver of images, called in the camera's thread; None removes it."""
        with self._lock:
            self._deliver = deliver

    def events(self) -> list[dict[str, Any]]:
        """Return the last events, newest first: Unix time ``at`` and label, score, state, reason or error."""
        return list(reversed(self._events.copy()))


def shrink(image_hwc_rgb_u8: ImageU8) -> ImageU8:
    """Copy an image to a width of about 640 pixels, or its own width if that is smaller.

    Shrinking by an integer factor with ``INTER_LINEAR`` takes a fifth of the time of ``INTER_AREA`` for 1920 x 1080;
    it delays the camera, and the image is only for viewing.
    """
    import cv2

    height, width = image_hwc_rgb_u8.shape[:2]
    # Also limited by height, so that a tall image does not become a large copy.
    factor = round(max(width / MAX_IMAGE_WIDTH_PX, height / (2 * MAX_IMAGE_WIDTH_PX)))
    if factor <= 1:
        small: ImageU8 = image_hwc_rgb_u8.copy()
        return small
    size_wh = max(1, width // factor), max(1, height // factor)
    whole = image_hwc_rgb_u8[: size_wh[1] * factor, : size_wh[0] * factor]
    return cast("ImageU8", cv2.resize(whole, size_wh, interpolation=cv2.INTER_LINEAR))


def _event(result: Result) -> dict[str, Any] | None:
    if isinstance(result, StateChange):
        return {"at": result.at, "state": result.state.value, "reason": result.reason}
    if isinstance(result, Failed):
        return {"at": time.time(), "error": result.message}
    if isinstance(result, Classified) and result.decision and result.decision.event:
        return {"at": capture_time(result), "label": result.decision.label, "score": result.decision.score}
    return None


@dataclass(frozen=True)
class EncodedImage:
    """A JPEG file, its number from 1, and its capture time by the event loop's clock, in seconds."""

    number: int
    jpeg: bytes
    taken_s: float


class ImageEncoder:
    """The newest image as JPEG, in the server's event loop; only `deliver` may be called from another thread.

    Args:
        feed: Source of images.
        executor: Thread that encodes, so that the event loop is not blocked.
    """

    def __init__(self, feed: LiveFeed, executor: Executor) -> None:
        self._feed, self._executor = feed, executor
        self._loop = asyncio.get_running_loop()
        self._newest: EncodedImage | None = None
        self._arrival: asyncio.Future[None] = self._loop.create_future()
        self._tasks: set[asyncio.Task[None]] = set()

    def deliver(self, image_hwc_rgb_u8: ImageU8) -> None:
        """Take over an image (uint8 [height, width, 3], RGB); for the camera's thread."""
        self._loop.call_soon_threadsafe(self._begin, image_hwc_rgb_u8)

    async def next_image(self, number: int, wait_s: float) -> EncodedImage | None:
        """Wait for an image with another number that is at most a second old; None after ``wait_s`` seconds."""
        deadline_s = self._loop.time() + wait_s
        while True:
            now_s = self._loop.time()
            newest = self._newest
            if newest and newest.number != number and now_s - newest.taken_s <= _MAX_AGE_S:
                return newest
            if now_s >= deadline_s:
                return None
            if not self._tasks:
                self._feed.request_image()
            await asyncio.wait((self._arrival,), timeout=deadline_s - now_s)

    def _begin(self, image_hwc_rgb_u8: ImageU8) -> None:
        task = self._loop.create_task(self._encode(image_hwc_rgb_u8, self._loop.time()))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _encode(self, image_hwc_rgb_u8: ImageU8, taken_s: float) -> None:
        work: Callable[[ImageU8], bytes] = encode_jpeg
        jpeg = await self._loop.run_in_executor(self._executor, work, image_hwc_rgb_u8)
        self._newest = EncodedImage(self._newest.number + 1 if self._newest else 1, jpeg, taken_s)
        self._arrival.set_result(None)
        self._arrival = self._loop.create_future()
