"""Occlusion maps: parts of an image on which a model's answer rests.

After Zeiler and Fergus, "Visualizing and understanding convolutional networks" (2014), section 4.2: a patch is hidden
at each of 8 x 8 places, and the change of the answer's score is drawn there. It needs nothing but the model's outputs,
so it works for any network under any backend.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.classifier import widen
from edge_runtime.contract import OutputSpec
from train.fitting.phases import predict

MAX_MAPS = 6
_CELLS = 8
_MAX_BYTES = 256 << 20
_MAX_S = 60.0
_LEAST_CHANGE = 0.01
_STRONGEST_ALPHA = 0.7
_RED, _BLUE = (214, 40, 40), (30, 90, 220)


@dataclass(frozen=True)
class OcclusionMap:
    """Effect of hiding parts of one image.

    Attributes:
        image_hwc_rgb_u8: uint8 [H, W, 3], the image as the model saw it.
        drops: float32 [8, 8], fall of the answer's score with the patch around each cell hidden, -1..1.
    """

    image_hwc_rgb_u8: NDArray[np.uint8]
    drops: NDArray[np.float32]

    @property
    def strongest(self) -> float:
        """Largest fall of the score, 0..1; 0 if no hidden part lowers it by a point."""
        largest = float(self.drops.max())
        return largest if largest >= _LEAST_CHANGE else 0.0

    def drawn(self) -> NDArray[np.uint8]:
        """Draw the map over the image, uint8 [H, W, 3] RGB: red where hiding lowers the score, blue where it raises."""
        import cv2

        height, width = self.image_hwc_rgb_u8.shape[:2]
        scale = max(float(np.abs(self.drops).max()), _LEAST_CHANGE)
        smooth = cv2.resize(self.drops / np.float32(scale), (width, height), interpolation=cv2.INTER_CUBIC)
        alpha = _STRONGEST_ALPHA * np.clip(np.abs(smooth), 0, 1)[..., np.newaxis]
        color = np.where(smooth[..., np.newaxis] > 0, _RED, _BLUE)
        return np.asarray(self.image_hwc_rgb_u8 * (1 - alpha) + color * alpha, np.float32).round().astype(np.uint8)


def occlusion_maps(
    model: Any, images_nhwc_rgb_u8: NDArray[np.uint8], answers: NDArray[np.int64], output: OutputSpec
) -> list[OcclusionMap]:
    """Make the maps of some images, as many as fit into 256 MiB and, by the time of the first, into a minute.

    Args:
        model: Keras model from uint8 images to probabilities.
        images_nhwc_rgb_u8: uint8 [n, H, W, 3].
        answers: int64 [n], label index whose score is observed.
        output: Meaning of the model's output.
    """
    images = images_nhwc_rgb_u8[:MAX_MAPS]
    images = images[: max(1, _MAX_BYTES // ((_CELLS**2 + 1) * max(1, images[:1].nbytes)))]
    started_s = time.monotonic()
    first = _maps(model, images[:1], answers[:1], output)
    more = int(_MAX_S / max(time.monotonic() - started_s, _MAX_S / MAX_MAPS)) if first else 0
    return first + _maps(model, images[1:more], answers[1:more], output)


def _maps(model: Any, images: NDArray[np.uint8], answers: NDArray[np.int64], output: OutputSpec) -> list[OcclusionMap]:
    if not len(images):
        return []
    every = np.concatenate([_hidden(image) for image in images])
    outputs = predict(model, every, np.arange(len(every)), "occlusion maps")
    scores = widen(outputs, output).reshape(len(images), _CELLS**2 + 1, -1)
    maps = []
    for image, own, answer in zip(images, scores, answers, strict=False):
        drops = (own[0, answer] - own[1:, answer]).reshape(_CELLS, _CELLS)
        maps.append(OcclusionMap(image, drops.astype(np.float32)))
    return maps


def _hidden(image_hwc_rgb_u8: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Copy an image once whole and once for each cell, with the patch around it in the mean colour."""
    height, width = image_hwc_rgb_u8.shape[:2]
    copies = np.repeat(image_hwc_rgb_u8[np.newaxis], _CELLS**2 + 1, axis=0)
    mean = image_hwc_rgb_u8.mean(axis=(0, 1)).round().astype(np.uint8)
    for cell in range(_CELLS**2):
        (top, bottom), (left, right) = _span(cell // _CELLS, height), _span(cell % _CELLS, width)
        copies[cell + 1, top:bottom, left:right] = mean
    return copies


def _span(index: int, size_px: int) -> tuple[int, int]:
    """Ends of a patch: its cell and half of each neighbour, in pixels."""
    return max(0, round((index - 0.5) * size_px / _CELLS)), min(size_px, round((index + 1.5) * size_px / _CELLS))
