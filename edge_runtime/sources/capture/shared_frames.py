"""Shared memory that holds the newest frame of the capture process; never a queue.

The memory is an unnamed file (memfd_create(2)) that is freed with its last user, even after a crash. Its first page
names the slot of the newest frame and the slot that the reader holds; a record lock (fcntl(2)), which the kernel
releases when a process dies, guards that page. The writer fills the third slot, so the reader always gets the newest
frame, and no frame changes while it is in use.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import struct
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

import numpy as np

from edge_runtime.errors import SourceError
from edge_runtime.sources.base import Frame

if TYPE_CHECKING:
    from edge_runtime.preprocess import ImageU8


MAX_PIXELS = 4096 * 3072
"""Largest frame; every Raspberry Pi camera up to 12 megapixels fits. Only written pages take memory."""

_SLOTS = 3
_SLOT_BYTES = MAX_PIXELS * 3
_HEAD_BYTES = mmap.PAGESIZE
_FILE_BYTES = _HEAD_BYTES + _SLOTS * _SLOT_BYTES
_NOTHING = -1

_HELD = struct.Struct("<q")
_HELD_AT = 0
# Slot, height, width, number, is_live, time_s, started_s, decode_ms.
_NEWEST = struct.Struct("<qqqqqddd")
_NEWEST_AT = 64

_LOCK_ATTEMPTS = 100
_LOCK_PAUSE_S = 100e-6


def create_memory() -> int:
    """Create empty shared memory.

    Returns:
        File descriptor for one `FrameReader` here and one `FrameWriter` in the child; the caller closes it.
    """
    descriptor = os.memfd_create("edgekit-frames")
    os.ftruncate(descriptor, _FILE_BYTES)
    os.pwrite(descriptor, _HELD.pack(_NOTHING), _HELD_AT)
    os.pwrite(descriptor, _NEWEST.pack(_NOTHING, 0, 0, _NOTHING, 0, 0.0, 0.0, 0.0), _NEWEST_AT)
    return descriptor


class FrameWriter:
    """Write frames, in the capture process.

    Args:
        descriptor: File descriptor from `create_memory`, open as long as this object is used.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._memory = mmap.mmap(descriptor, _FILE_BYTES)
        self._slot = 0

    def slot(self, height: int, width: int) -> ImageU8:
        """Return a slot that is not being read: uint8 [height, width, 3], RGB, with old contents.

        Raises:
            SourceError: The frame has more than `MAX_PIXELS`.
        """
        if not 0 < height * width <= MAX_PIXELS:
            raise SourceError(
                f"gives frames of {width}x{height}, expected at most {MAX_PIXELS / 1e6:.1f} million pixels; "
                "ask it for a smaller size"
            )
        with _locked(self._descriptor):
            (held,) = _HELD.unpack_from(self._memory, _HELD_AT)
            (newest,) = _HELD.unpack_from(self._memory, _NEWEST_AT)
        # The reader may take the newest in the meantime, but never a third one.
        self._slot = next(slot for slot in range(_SLOTS) if slot not in (held, newest))
        return _view(self._memory, self._slot, height, width)

    def publish(
        self, size_hw: tuple[int, int], number: int, *, time_s: float, is_live: bool, started_s: float, decode_ms: float
    ) -> None:
        """Make the last `slot` the newest frame; see `Frame` for the values. A live frame has a time of capture."""
        with _locked(self._descriptor):
            _NEWEST.pack_into(
                self._memory, _NEWEST_AT, self._slot, *size_hw, number, is_live, time_s, started_s, decode_ms
            )


class FrameReader:
    """Read frames, in the parent; the pixels are read-only.

    Args:
        descriptor: File descriptor from `create_memory`, open as long as this object is used.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._head = mmap.mmap(descriptor, _HEAD_BYTES)
        self._pixels = mmap.mmap(descriptor, _FILE_BYTES, access=mmap.ACCESS_READ)
        self._taken = _NOTHING

    def take(self) -> Frame | None:
        """Return the newest frame, or None if there is none since the last call.

        The previously taken frame is released to the writer. A stopped writer causes no wait.
        """
        if not self._try_lock():
            return None
        try:
            slot, height, width, number, is_live, time_s, started_s, decode_ms = _NEWEST.unpack_from(
                self._head, _NEWEST_AT
            )
            if number <= self._taken:
                return None
            if not (0 <= slot < _SLOTS and height > 0 and width > 0 and height * width <= MAX_PIXELS):
                raise SourceError(f"the capture process wrote an impossible frame ({width}x{height} in slot {slot})")
            _HELD.pack_into(self._head, _HELD_AT, slot)
        finally:
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN, _HEAD_BYTES)
        self._taken = number
        image = _view(self._pixels, slot, height, width)
        captured_at = time.time() - (time.perf_counter() - started_s) if is_live else None
        return Frame(number, time_s, captured_at, started_s, decode_ms, image)

    def newest_number(self) -> int:
        """Return the number of the newest frame, taken or not; -1 for none. For use after the writer has ended."""
        return int(_NEWEST.unpack_from(self._head, _NEWEST_AT)[3])

    def _try_lock(self) -> bool:
        for _ in range(_LOCK_ATTEMPTS):
            try:
                fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, _HEAD_BYTES)
            except BlockingIOError:
                time.sleep(_LOCK_PAUSE_S)
            else:
                return True
        return False


@contextlib.contextmanager
def _locked(descriptor: int) -> Iterator[None]:
    fcntl.lockf(descriptor, fcntl.LOCK_EX, _HEAD_BYTES)
    try:
        yield
    finally:
        fcntl.lockf(descriptor, fcntl.LOCK_UN, _HEAD_BYTES)


def _view(memory: mmap.mmap, slot: int, height: int, width: int) -> ImageU8:
    start = _HEAD_BYTES + slot * _SLOT_BYTES
    flat = np.frombuffer(cast("bytes", memory), np.uint8, height * width * 3, start)
    return flat.reshape(height, width, 3)
