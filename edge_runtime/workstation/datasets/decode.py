"""Decode and prepare many images in parallel, into one array."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_runtime.contract import InputSpec
from edge_runtime.errors import ImageError
from edge_runtime.platform.process import core_count
from edge_runtime.preprocess import load_prepared


@dataclass(frozen=True)
class Decoded:
    """Prepared images, and failures.

    Attributes:
        images_nhwc_rgb_u8: uint8 [len(kept), H, W, 3], RGB.
        kept: Index of each image in the given sequence.
        failures: (index, reason) of the other images.
    """

    images_nhwc_rgb_u8: NDArray[np.uint8]
    kept: tuple[int, ...]
    failures: tuple[tuple[int, str], ...]


def decode_all(
    paths: Sequence[Path], spec: InputSpec, *, workers: int = 0, progress: Callable[[int], None] | None = None
) -> Decoded:
    """Decode files by the contract; a bad file is recorded, never fatal.

    Args:
        paths: Paths of image files.
        spec: Geometry of the prepared images.
        workers: Number of threads; 0 takes one per core.
        progress: Function called with 1 after each image.
    """
    images = np.empty((len(paths), *spec.shape_hwc), np.uint8)
    reasons: list[str | None] = [None] * len(paths)

    def decode(index: int) -> None:
        try:
            images[index] = load_prepared(paths[index], spec)
        except ImageError as error:
            reasons[index] = str(error)

    with ThreadPoolExecutor(workers or core_count()) as pool:
        for _ in pool.map(decode, range(len(paths))):
            if progress:
                progress(1)
    kept = tuple(index for index, reason in enumerate(reasons) if reason is None)
    failures = tuple((index, reason) for index, reason in enumerate(reasons) if reason is not None)
    return Decoded(images if not failures else images[list(kept)], kept, failures)
