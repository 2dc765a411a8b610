"""A set of file names that stays small however many there are."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

_RECENT = 1 << 16


class NameSet:
    """Names by 64 bits of their hash: 8 bytes each, and a few megabytes for the latest.

    Among a million names, a new one is taken for one of them once in 20 million million times. Not thread-safe.

    Args:
        names: To begin with.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._sorted: NDArray[np.uint64] = np.empty(0, np.uint64)
        self._recent: set[int] = set()
        for name in names:
            self.add(name)

    def add(self, name: str) -> bool:
        """Add a name, and say whether it is new."""
        key = _key(name)
        if self._holds(key):
            return False
        self._recent.add(key)
        if len(self._recent) == _RECENT:
            recent = np.fromiter(self._recent, np.uint64, len(self._recent))
            self._sorted = np.sort(np.concatenate([self._sorted, recent]))
            self._recent.clear()
        return True

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._holds(_key(name))

    def __len__(self) -> int:
        return len(self._sorted) + len(self._recent)

    def _holds(self, key: int) -> bool:
        if key in self._recent:
            return True
        index = int(np.searchsorted(self._sorted, np.uint64(key)))
        return index < len(self._sorted) and int(self._sorted[index]) == key


def _key(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
