"""Images and events handed from the camera thread to the server, each image encoded once for all viewers."""

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

if TYPE_CHECKING:
    from edge_runtime.preprocess import ImageU8


Deliver = Callable[["ImageU8"], None]

IMAGE_INTERVAL_S = 0.1
MAX_IMAGE_WIDTH_PX = 640
_EVENTS = 20


class Showcase:
    """Costs the camera a counter a frame, and a small copy only when someone waits for an image. Thread-safe.

    Attributes:
        version: Counts results, so that the server sees at a glance whether there is news.
    """

    def __init__(self) -> None:
        self.version = 0
        self._events: deque[dict[str, Any]] = deque(maxlen=_EVENTS)
        self._lock = threading.Lock()
        self._deliver: Deliver | None = None
        self._wanted = False
        self._next_image_s = 0.0

    def put(self, result: Result, image_hwc_rgb_u8: ImageU8 | None) -> None:
        """Take a result, and its frame (uint8 [height, width, 3], RGB, lent) when an image is wanted."""
        event = _event(result)
        if event and not (event.get("error") and self._events and self._events[-1].get("error") == event["error"]):
            self._events.append(event)
        self.version += 1
        if self._wanted and image_hwc_rgb_u8 is not None and time.perf_counter() >= self._next_image_s:
            self._give(image_hwc_rgb_u8)

    def want_image(self) -> None:
        """Ask for the next frame."""
        self._wanted = True

    def connect(self, deliver: Deliver | None) -> None:
        """Say who takes images, in the camera's thread; None lets go of it."""
        with self._lock:
            self._deliver = deliver

    def events(self) -> list[dict[str, Any]]:
        """The last events, newest first: Unix time ``at`` and label and score, or state and reason, or an error."""
        return list(reversed(self._events.copy()))

    def _give(self, image_hwc_rgb_u8: ImageU8) -> None:
        self._wanted = False
        self._next_image_s = time.perf_counter() + IMAGE_INTERVAL_S
        small = shrink(image_hwc_rgb_u8)
        with self._lock:
            if self._deliver:
                self._deliver(small)


def shrink(image_hwc_rgb_u8: ImageU8) -> ImageU8:
    """A copy that is about 640 pixels wide, or smaller if the image is.

    By a whole factor and with the mean of the innermost pixels: for 1920 x 1080 that takes a fifth of the time of
    ``INTER_AREA``, and here it is the camera that waits, for an image that is only looked at.
    """
    import cv2

    height, width = image_hwc_rgb_u8.shape[:2]
    # Tall images count by their height, so that an odd shape cannot become a large copy.
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
        at = result.frame.captured_at if result.frame and result.frame.captured_at is not None else time.time()
        return {"at": at, "label": result.decision.label, "score": result.decision.score}
    return None


_JPEG_QUALITY = 80
_FRESH_S = 1.0


@dataclass(frozen=True)
class Picture:
    """A JPEG, its number counted from 1, and when it was taken by the loop's clock in seconds."""

    number: int
    jpeg: bytes
    taken_s: float


class Images:
    """Lives in the server's event loop; only `deliver` is called from elsewhere.

    Args:
        showcase: Where images are asked for.
        executor: Where they are encoded, so that the loop goes on.
    """

    def __init__(self, showcase: Showcase, executor: Executor) -> None:
        self._showcase, self._executor = showcase, executor
        self._loop = asyncio.get_running_loop()
        self._newest: Picture | None = None
        self._arrival: asyncio.Future[None] = self._loop.create_future()
        self._tasks: set[asyncio.Task[None]] = set()

    def deliver(self, image_hwc_rgb_u8: ImageU8) -> None:
        """Take an image (uint8 [height, width, 3], RGB) that is ours to keep. From the camera's thread."""
        self._loop.call_soon_threadsafe(self._begin, image_hwc_rgb_u8)

    async def other_than(self, number: int, wait_s: float) -> Picture | None:
        """The newest image, once it is another than ``number`` and under a second old; None after ``wait_s``."""
        deadline_s = self._loop.time() + wait_s
        while True:
            now_s = self._loop.time()
            newest = self._newest
            if newest and newest.number != number and now_s - newest.taken_s <= _FRESH_S:
                return newest
            if now_s >= deadline_s:
                return None
            if not self._tasks:
                self._showcase.want_image()
            await asyncio.wait((self._arrival,), timeout=deadline_s - now_s)

    def _begin(self, image_hwc_rgb_u8: ImageU8) -> None:
        task = self._loop.create_task(self._encode(image_hwc_rgb_u8, self._loop.time()))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _encode(self, image_hwc_rgb_u8: ImageU8, taken_s: float) -> None:
        work: Callable[[ImageU8], bytes] = encode_jpeg
        jpeg = await self._loop.run_in_executor(self._executor, work, image_hwc_rgb_u8)
        self._newest = Picture(self._newest.number + 1 if self._newest else 1, jpeg, taken_s)
        self._arrival.set_result(None)
        self._arrival = self._loop.create_future()


def encode_jpeg(image_hwc_rgb_u8: ImageU8) -> bytes:
    """A JPEG of an image, uint8 [height, width, 3], RGB."""
    import cv2

    bgr = cv2.cvtColor(image_hwc_rgb_u8, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1].tobytes()
