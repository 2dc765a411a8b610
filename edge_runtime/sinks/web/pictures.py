"""Pictures for the page: asked of the camera when someone waits, encoded once for all who do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_runtime.sinks.web.showcase import Showcase

if TYPE_CHECKING:
    from edge_runtime.preprocess import ImageU8

_JPEG_QUALITY = 80
_FRESH_S = 1.0


@dataclass(frozen=True)
class Picture:
    """A JPEG, its number counted from 1, and when it was taken by the loop's clock in seconds."""

    number: int
    jpeg: bytes
    taken_s: float


class Pictures:
    """Lives in the server's event loop; only `deliver` is called from elsewhere.

    Args:
        showcase: Where pictures are asked for.
        executor: Where they are encoded, so that the loop goes on.
    """

    def __init__(self, showcase: Showcase, executor: Executor) -> None:
        self._showcase, self._executor = showcase, executor
        self._loop = asyncio.get_running_loop()
        self._newest: Picture | None = None
        self._arrival: asyncio.Future[None] = self._loop.create_future()
        self._tasks: set[asyncio.Task[None]] = set()

    def deliver(self, image_hwc_rgb_u8: ImageU8) -> None:
        """Take a picture (uint8 [height, width, 3], RGB) that is ours to keep. From the camera's thread."""
        self._loop.call_soon_threadsafe(self._begin, image_hwc_rgb_u8)

    async def other_than(self, number: int, wait_s: float) -> Picture | None:
        """The newest picture, once it is another than ``number`` and under a second old; None after ``wait_s``."""
        deadline_s = self._loop.time() + wait_s
        while True:
            now_s = self._loop.time()
            newest = self._newest
            if newest and newest.number != number and now_s - newest.taken_s <= _FRESH_S:
                return newest
            if now_s >= deadline_s:
                return None
            if not self._tasks:
                self._showcase.want_picture()
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
    """A JPEG of a picture, uint8 [height, width, 3], RGB."""
    import cv2

    bgr = cv2.cvtColor(image_hwc_rgb_u8, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1].tobytes()
