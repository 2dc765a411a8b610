"""Small images and videos: arrays, encoded bytes and files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

ImageU8 = NDArray[np.uint8]


def noisy_images(count: int, side: int = 24, seed: int = 0) -> ImageU8:
    """Make noise, uint8 [count, side, side, 3]."""
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), np.uint8)


def plain_image(value: int | tuple[int, int, int], height: int = 12, width: int = 12) -> ImageU8:
    """Make an image of one colour, uint8 [height, width, 3]."""
    return np.full((height, width, 3), value, np.uint8)


def encode(image_hwc_bgr_u8: NDArray[Any], suffix: str = ".jpg", *parameters: int) -> bytes:
    """Encode an image as OpenCV does for a suffix; ``parameters`` are those of `cv2.imencode`."""
    is_encoded, data = cv2.imencode(suffix, image_hwc_bgr_u8, list(parameters))
    assert is_encoded
    return data.tobytes()


def write_image(path: Path, image_hwc_bgr_u8: NDArray[Any]) -> Path:
    """Write an image file, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image_hwc_bgr_u8)
    return path


def write_images(folder: Path, values: Iterable[int | tuple[int, int, int]], suffix: str = ".png") -> list[Path]:
    """Write ``folder/000.png`` and so on, 12 x 12 pixels each of one colour (BGR), in the order of ``values``."""
    return [write_image(folder / f"{index:03d}{suffix}", plain_image(value)) for index, value in enumerate(values)]


def write_video(path: Path, frames: Iterable[ImageU8], fps: float = 20.0, codec: str = "MJPG") -> Path:
    """Write frames, uint8 [H, W, 3] BGR, all of one size, as a video."""
    frames = list(frames)
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), fps, (width, height))
    assert writer.isOpened()
    for frame in frames:
        writer.write(frame)
    writer.release()
    return path
