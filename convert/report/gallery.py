"""Pictures of the flips, as the models saw them."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convert.check.compare import Flip
from convert.check.record import ConversionRecord

MAX_TILES = 24
_SIDE_PX = 160
_SMALLEST_SIDE_PX = 96
_JPEG_QUALITY = 78
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
                urls[flip.index] = _jpeg_url(np.asarray(images_nhwc_rgb_u8[flip.index]))
            room -= len(urls[flip.index])
            if room < 0:
                return [tuple(tiles) for tiles in chosen]
            tiles.append(Tile(urls[flip.index], names[flip.index], flip))
    return [tuple(tiles) for tiles in chosen]


def _jpeg_url(image_hwc_rgb_u8: NDArray[np.uint8]) -> str:
    import cv2

    height, width = image_hwc_rgb_u8.shape[:2]
    longest = max(height, width)
    # Tiny pictures are enlarged without smoothing: their pixels are what the model saw.
    scale = _SIDE_PX / longest if longest > _SIDE_PX else max(1, _SMALLEST_SIDE_PX // longest)
    size_wh = max(1, round(width * scale)), max(1, round(height * scale))
    resized = cv2.resize(image_hwc_rgb_u8, size_wh, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST)
    done, data = cv2.imencode(
        ".jpg", cv2.cvtColor(resized, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    )
    if not done:
        raise ValueError("OpenCV cannot encode JPEG")
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()
