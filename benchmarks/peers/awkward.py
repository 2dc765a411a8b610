"""Ordinary files that tools stumble over, drawn here so that every machine has the same."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

_HEIGHT, _WIDTH = 90, 120


def draw_awkward(folder: Path) -> dict[str, Path]:
    """Write the files into ``folder``.

    Returns:
        What each one is, and its file, in a fixed order.
    """
    rows, columns = np.mgrid[:_HEIGHT, :_WIDTH]
    red, green, blue = rows * 255 // _HEIGHT, columns * 255 // _WIDTH, (rows + columns) % 256
    image_hwc_bgr_u8 = np.stack([blue, green, red], axis=2).astype(np.uint8)
    gray_hw_u8 = image_hwc_bgr_u8[:, :, 1]
    alpha_hw1_u8 = gray_hw_u8[:, :, np.newaxis]
    deep_hwc_bgr_u16 = image_hwc_bgr_u8.astype(np.uint16) * 257
    drawn = {
        "grey JPEG": ("grey.jpg", gray_hw_u8),
        "grey PNG": ("grey.png", gray_hw_u8),
        "PNG with alpha": ("alpha.png", np.concatenate([image_hwc_bgr_u8, alpha_hw1_u8], axis=2)),
        "PNG of 16 bits, colour": ("deep.png", deep_hwc_bgr_u16),
        "PNG of 16 bits, grey": ("deep-grey.png", deep_hwc_bgr_u16[:, :, 1]),
        "WebP": ("picture.webp", image_hwc_bgr_u8),
        "TIFF": ("picture.tif", image_hwc_bgr_u8),
        "one pixel": ("pixel.png", image_hwc_bgr_u8[:1, :1]),
    }
    files = {}
    for what, (name, pixels) in drawn.items():
        files[what] = folder / name
        cv2.imwrite(str(files[what]), pixels)
    return {**files, **_damaged(folder, image_hwc_bgr_u8)}


def _damaged(folder: Path, image_hwc_bgr_u8: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> dict[str, Path]:
    """Files that hold no whole picture: an answer to one of these is worth nothing, a refusal is right."""
    jpeg = cv2.imencode(".jpg", image_hwc_bgr_u8)[1].tobytes()
    contents = {
        "JPEG cut off in the middle": ("cut.jpg", jpeg[: len(jpeg) // 2]),
        "text named .jpg": ("text.jpg", b"not a picture\n"),
        "empty file": ("empty.jpg", b""),
    }
    files = {}
    for what, (name, content) in contents.items():
        files[what] = folder / name
        files[what].write_bytes(content)
    return files


DAMAGED = ("JPEG cut off in the middle", "text named .jpg", "empty file")
"""Of `draw_awkward`: a refusal is right."""
