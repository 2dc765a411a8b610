"""Feed arrays to Keras, the same way under every backend."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray


class Batches(keras.utils.PyDataset):
    """Batches of pictures, or of features computed from them, in an order drawn anew each epoch.

    The order of epoch k depends on the seed and on k alone.

    Args:
        inputs: uint8 pictures [n, H, W, 3] or float32 features [n, d].
        targets: int64 [n], class indices.
        batch_size: Items per batch; the last batch may be smaller.
        seed: Of the order; None keeps the given order.
        rows: Which items to use; None takes all. Saves a copy of a large array.
    """

    def __init__(
        self,
        inputs: NDArray[Any],
        targets: NDArray[np.int64],
        batch_size: int,
        *,
        seed: int | None = None,
        rows: NDArray[np.intp] | None = None,
    ) -> None:
        super().__init__()
        self._inputs, self._targets = inputs, targets
        self._rows = np.arange(len(inputs)) if rows is None else rows
        self._batch_size, self._seed, self._epoch = batch_size, seed, 0
        self._order = self._rows
        self._draw()

    @property
    def item_count(self) -> int:
        """Number of items in one epoch."""
        return len(self._rows)

    def __len__(self) -> int:
        return -(-len(self._rows) // self._batch_size)

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        rows = self._order[index * self._batch_size : (index + 1) * self._batch_size]
        return self._inputs[rows].astype(np.float32), self._targets[rows]

    def on_epoch_end(self) -> None:
        """Draw the next epoch's order."""
        self._epoch += 1
        self._draw()

    def _draw(self) -> None:
        if self._seed is not None:
            self._order = np.random.default_rng([self._seed, self._epoch]).permutation(self._rows)
