"""Batches of arrays for Keras, the same under every backend."""

from __future__ import annotations

import time
from typing import Any

import cv2
import keras
import numpy as np
from numpy.typing import NDArray

from train.distribution import current_shard

PADDING_TARGET = -1.0

_Batch = tuple[NDArray[Any], NDArray[np.float32], NDArray[np.float32] | None]


class Batches(keras.utils.PyDataset):
    """Batches of images, or of features computed from them, reshuffled each epoch.

    The order of epoch k depends on the seed and k alone, so that an interrupted training can resume.

    On several devices (see `train.distribution`) a process yields its part of each batch. A last batch that does not
    divide evenly is padded with its own items. In training these count twice; without a seed they have weight 0 and
    the target `PADDING_TARGET`, so that losses are those of one device.

    Args:
        inputs: uint8 images [rows, H, W, 3] or float32 features [rows, d]; may be a memory map.
        targets: float32 [n, outputs], target of each item.
        batch_size: Items per batch; the last batch may be smaller.
        rows: intp [n], row of each item in ``inputs``; None for 0..n - 1.
        seed: Seed of the order; None keeps the given order.
        weights: float32 [n], weight of each item in the loss; None for 1.
        mixup: Parameter of the Beta distribution of the share of a second item; 0 disables mixup.
        steps: Batches per epoch; 0 uses every item once.
        first_epoch: Number of the first epoch, from 0.

    Attributes:
        seconds: Total time of batch preparation in seconds. Keras prepares batches while a step computes, so this is
            an upper bound of the time that steps waited for data.
    """

    def __init__(
        self,
        inputs: NDArray[Any],
        targets: NDArray[np.float32],
        batch_size: int,
        *,
        rows: NDArray[np.intp] | None = None,
        seed: int | None = None,
        weights: NDArray[np.float32] | None = None,
        mixup: float = 0.0,
        steps: int = 0,
        first_epoch: int = 0,
    ) -> None:
        super().__init__()
        self._inputs, self._targets, self._weights = inputs, targets, weights
        self._rows = np.arange(len(inputs)) if rows is None else rows
        self._batch_size, self._seed, self._mixup, self._epoch = batch_size, seed, mixup, first_epoch
        full_steps = -(-len(self._rows) // batch_size)
        self._steps = min(steps, full_steps) if steps else full_steps
        self._shard = current_shard()
        self._filled = self._count_filled()
        self.seconds = 0.0
        self._order = np.arange(len(self._rows))
        self._draw()

    @property
    def item_count(self) -> int:
        """Number of items in one epoch."""
        return min(len(self._rows), self._steps * self._batch_size)

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, index: int) -> tuple[NDArray[Any], ...]:
        started = time.perf_counter()
        items = self._order[index * self._batch_size : (index + 1) * self._batch_size]
        is_padding = np.arange(self._shard.filled_count(len(items))) >= len(items)
        items, mine = self._shard.filled(items), self._shard.part(len(is_padding))
        batch = self._take(items[mine])
        if self._mixup:
            batch = self._mix(index, batch, items, mine)
        inputs, targets, weights = batch if self._seed is not None else self._without(is_padding[mine], batch)
        self.seconds += time.perf_counter() - started
        return (inputs, targets) if weights is None else (inputs, targets, weights)

    def on_epoch_end(self) -> None:
        """Shuffle for the next epoch."""
        self._epoch += 1
        self._draw()

    def _draw(self) -> None:
        if self._seed is not None:
            self._order = np.random.default_rng([self._seed, self._epoch]).permutation(len(self._rows))

    def _count_filled(self) -> int:
        """Count the items of an epoch, padding included."""
        full, rest = divmod(self.item_count, self._batch_size)
        return full * self._batch_size + self._shard.filled_count(rest)

    def _take(self, items: NDArray[np.intp]) -> _Batch:
        weights = None if self._weights is None else self._weights[items]
        return self._inputs[self._rows[items]], self._targets[items], weights

    def _mix(self, index: int, batch: _Batch, items: NDArray[np.intp], mine: slice) -> _Batch:
        """Mix each item with another of the whole batch, with one share per batch (arXiv:1710.09412)."""
        rng = np.random.default_rng([self._seed or 0, self._epoch, index, 1])
        share = np.float32(rng.beta(self._mixup, self._mixup))
        inputs, targets, weights = batch
        other_inputs, other_targets, other_weights = self._take(items[rng.permutation(len(items))[mine]])
        if inputs.dtype == np.uint8:
            # OpenCV on bytes is ten times as fast as NumPy on floats.
            flat = (len(inputs), -1)
            one, other = inputs.reshape(flat), other_inputs.reshape(flat)
            mixed = cv2.addWeighted(one, float(share), other, float(1 - share), 0.0).reshape(inputs.shape)
        else:
            mixed = share * inputs + (1 - share) * other_inputs
        targets = share * targets + (1 - share) * other_targets
        if weights is not None and other_weights is not None:
            weights = share * weights + (1 - share) * other_weights
        return mixed, targets, weights

    def _without(self, is_padding: NDArray[np.bool_], batch: _Batch) -> _Batch:
        """Give padding weight 0, and scale the other weights so that the mean over the epoch is theirs."""
        inputs, targets, weights = batch
        if self._filled == self.item_count:
            return batch
        counts = np.where(is_padding, 0.0, self._filled / self.item_count).astype(np.float32)
        targets = np.where(is_padding[:, np.newaxis], np.float32(PADDING_TARGET), targets)
        return inputs, targets, counts if weights is None else counts * weights
