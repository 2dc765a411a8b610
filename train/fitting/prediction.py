"""Run a model over many pictures, a batch at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.cli_support import progress_bar
from train.distribution import current_shard, gathered
from train.fitting.callbacks import PredictProgress
from train.fitting.pipeline import Batches

_BATCH_SIZE = 32


def predict(
    model: Any, images_nhwc_rgb_u8: NDArray[np.uint8], rows: NDArray[np.intp], label: str
) -> NDArray[np.float32]:
    """Run a model over pictures, with a progress bar.

    Args:
        model: Pictures to anything of one axis.
        images_nhwc_rgb_u8: uint8 [any, H, W, 3] RGB; may be a memory map.
        rows: intp [n], which of them.
        label: Of the progress bar.

    Returns:
        float32 [n, d].
    """
    targets = np.zeros((len(rows), 1), np.float32)
    batch_size = current_shard().filled_count(_BATCH_SIZE)
    with progress_bar(label, len(rows)) as progress:
        result: NDArray[np.float32] = gathered(model).predict(
            Batches(images_nhwc_rgb_u8, targets, batch_size, rows=rows),
            verbose=0,
            callbacks=[PredictProgress(len(rows), batch_size, progress)],
        )
    # What fills the last batch up is cut off.
    return result[: len(rows)].astype(np.float32, copy=False)
