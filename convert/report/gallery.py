"""Pictures of the flips, as the models saw them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convert.check.compare import Flip
from convert.check.record import ConversionRecord
from edge_runtime.reporting.pictures import thumbnail_url

MAX_TILES = 24
# All pictures of a page together, so that it can be mailed.
_MAX_CHARACTERS = 2_200_000


@dataclass(frozen=True)
class Tile:
    """One flipped picture.

    Attributes:
        jpeg_url: The picture, embedded.
        name: Its file.
        flip: What the models said.
    """

    jpeg_url: str
    name: str
    flip: Flip

    @property
    def is_wrong(self) -> bool:
        """Whether the artefact's answer is wrong."""
        return self.flip.artifact != self.flip.truth


def flip_tiles(
    record: ConversionRecord, images_nhwc_rgb_u8: NDArray[np.uint8], names: Sequence[str]
) -> list[tuple[Tile, ...]]:
    """Up to `MAX_TILES` pictures for each variant, the surest wrong answers first.

    The variants take turns until the page is full, so that no one fills it alone.

    Args:
        record: Its flips count pictures from 0.
        images_nhwc_rgb_u8: uint8 [n, H, W, 3], the pictures of the check; only those shown are read.
        names: A name for each.
    """
    chosen: list[list[Tile]] = [[] for _ in record.variants]
    urls: dict[int, str] = {}
    room = _MAX_CHARACTERS
    for rank in range(MAX_TILES):
        for tiles, variant in zip(chosen, record.variants, strict=True):
            if rank >= len(variant.comparison.flips):
                continue
            flip = variant.comparison.flips[rank]
            if flip.index not in urls:
                urls[flip.index] = thumbnail_url(np.asarray(images_nhwc_rgb_u8[flip.index]))
            room -= len(urls[flip.index])
            if room < 0:
                return [tuple(tiles) for tiles in chosen]
            tiles.append(Tile(urls[flip.index], names[flip.index], flip))
    return [tuple(tiles) for tiles in chosen]
