"""Shared memory that holds the newest frame of the capture process; never a queue.

The memory is an unnamed file (memfd_create(2)) that is gone with its last user, however that one ended. Its first page
says which slot holds the newest frame and which one the reader holds; a record lock (fcntl(2)), which the kernel takes
from a process that dies, guards that page. The writer fills a slot that is neither of the two, so three slots are
enough, the reader always gets the newest frame, and no frame changes while the reader looks at it.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import time
from typing import TYPE_CHECKING, cast

import numpy as np

from edge_runtime.errors import SourceError
from edge_runtime.sources.base import Frame

if TYPE_CHECKING:
    from edge_runtime.preprocess import ImageU8


MAX_PIXELS = 4096 * 3072
"""Of one frame; every Raspberry Pi camera up to 12 megapixels fits. Memory is taken only by what is written."""

_SLOTS = 3
_SLOT_BYTES = MAX_PIXELS * 3
_HEAD_BYTES = mmap.PAGESIZE
_FILE_BYTES = _HEAD_BYTES + _SLOTS * _SLOT_BYTES
_NOTHING = -1

_HELD = struct.Struct("<q")
_HELD_AT = 0
# Slot, height, width, number, time_s, captured_at (NaN: none), started_s, decode_ms.
_NEWEST = struct.Struct("<qqqqdddd")
_NEWEST_AT = 64

_LOCK_ATTEMPTS = 100
_LOCK_PAUSE_S = 100e-6


def create_memory() -> int:
    """Make empty shared memory.

    Returns:
        Its file descriptor, for one `FrameReader` here and one `FrameWriter` in the child; the caller closes it.
    """
    descriptor = os.memfd_create("edgekit-frames")
    os.ftruncate(descriptor, _FILE_BYTES)
    os.pwrite(descriptor, _HELD.pack(_NOTHING), _HELD_AT)
    os.pwrite(descriptor, _NEWEST.pack(_NOTHING, 0, 0, _NOTHING, 0.0, 0.0, 0.0, 0.0), _NEWEST_AT)
    return descriptor


class FrameWriter:
    """The capturing side.

    Args:
        descriptor: As `create_memory` gave it; it stays open as long as this object is used.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._memory = mmap.mmap(descriptor, _FILE_BYTES)
        self._slot = 0

    def slot(self, height: int, width: int) -> ImageU8:
        """A place for the next frame that nobody reads: uint8 [height, width, 3], RGB, contents left over.

        Raises:
            SourceError: A frame of more than `MAX_PIXELS`.
        """
        if not 0 < height * width <= MAX_PIXELS:
            raise SourceError(
                f"gives frames of {width}x{height}, expected at most {MAX_PIXELS / 1e6:.1f} million pixels; "
                "ask it for a smaller size"
            )
        with _Lock(self._descriptor):
            (held,) = _HELD.unpack_from(self._memory, _HELD_AT)
            (newest,) = _HELD.unpack_from(self._memory, _NEWEST_AT)
        # The reader may take the newest in the meantime, but never a third one.
        self._slot = next(slot for slot in range(_SLOTS) if slot not in (held, newest))
        return _view(self._memory, self._slot, height, width)

    def publish(
        self,
        size_hw: tuple[int, int],
        number: int,
        *,
        time_s: float,
        captured_at: float | None,
        started_s: float,
        decode_ms: float,
    ) -> None:
        """Make what was written to the last `slot` the newest frame; see `Frame` for the values."""
        at = float("nan") if captured_at is None else captured_at
        with _Lock(self._descriptor):
            _NEWEST.pack_into(self._memory, _NEWEST_AT, self._slot, *size_hw, number, time_s, at, started_s, decode_ms)


class FrameReader:
    """The side that looks at frames; it can only read their pixels.

    Args:
        descriptor: As `create_memory` gave it; it stays open as long as this object is used.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._head = mmap.mmap(descriptor, _HEAD_BYTES)
        self._pixels = mmap.mmap(descriptor, _FILE_BYTES, access=mmap.ACCESS_READ)
        self._taken = _NOTHING

    def take(self) -> Frame | None:
        """The newest frame, or None where there is none that was not taken before.

        It gives the frame taken before back to the writer. Never waits for a writer that was stopped.
        """
        if not self._try_lock():
            return None
        try:
            slot, height, width, number, time_s, captured_at, started_s, decode_ms = _NEWEST.unpack_from(
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
        at = None if captured_at != captured_at else captured_at
        return Frame(number, time_s, at, started_s, decode_ms, image)

    def newest_number(self) -> int:
        """Number of the newest frame, taken or not; -1 for none. For a writer that has ended."""
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


class _Lock:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __enter__(self) -> None:
        fcntl.lockf(self._descriptor, fcntl.LOCK_EX, _HEAD_BYTES)

    def __exit__(self, *_: object) -> None:
        fcntl.lockf(self._descriptor, fcntl.LOCK_UN, _HEAD_BYTES)


def _view(memory: mmap.mmap, slot: int, height: int, width: int) -> ImageU8:
    start = _HEAD_BYTES + slot * _SLOT_BYTES
    flat = np.frombuffer(cast("bytes", memory), np.uint8, height * width * 3, start)
    return flat.reshape(height, width, 3)
