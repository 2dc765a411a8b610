"""Random augmentation of training images as Keras layers, for every backend."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from train.recipe import AugmentSettings

_PIXEL_RANGE = (0, 255)


def augmentation(settings: AugmentSettings, seed: int) -> list[Any]:
    """Build the random layers, float32 [n, H, W, 3] RGB 0..255 to the same; empty without augmentation."""
    layers = keras.layers
    # Each layer has its own seed, so that omitting one does not change the others.
    common: list[dict[str, Any]] = [{"seed": seed + index, "dtype": "float32"} for index in range(7)]
    border = {"fill_mode": "reflect"}
    chosen = [
        layers.RandomFlip("horizontal", **common[0]) if settings.mirror else None,
        layers.RandomRotation(settings.rotation, **border, **common[1]) if settings.rotation else None,
        layers.RandomTranslation(settings.shift, settings.shift, **border, **common[2]) if settings.shift else None,
        layers.RandomZoom(settings.zoom, **border, **common[3]) if settings.zoom else None,
        layers.RandomBrightness(settings.brightness, **common[4]) if settings.brightness else None,
        layers.RandomContrast(settings.contrast, **common[5]) if settings.contrast else None,
        layers.RandAugment(_PIXEL_RANGE, num_ops=2, factor=settings.rand_augment, **common[6])
        if settings.rand_augment
        else None,
    ]
    return [layer for layer in chosen if layer is not None]


class _Always(keras.layers.Layer):
    """Wrap a random layer so that it is active in ``predict`` too, where Keras passes ``training=False``."""

    def __init__(self, layer: Any) -> None:
        super().__init__(dtype="float32")
        self.layer = layer

    def call(self, images: Any) -> Any:
        """Apply the layer as in training."""
        return self.layer(images, training=True)


def augmented(model: Any, settings: AugmentSettings, seed: int) -> Any:
    """Put random layers before a model; they are active in ``fit`` and inactive in validation.

    Args:
        model: Model with the input ``image``. Its weights are shared.
        settings: Augmentation of training images.
        seed: Seed of the random layers.

    Returns:
        Model with ``uint8`` images as input, so that bytes instead of floats are copied to the accelerator.
    """
    pixels, x = _pixels(model)
    for layer in augmentation(settings, seed):
        x = layer(x)
    return keras.Model(pixels, model(x))


def augmented_view(backbone: Any, settings: AugmentSettings, seed: int, view: int) -> Any:
    """Put one fixed augmented version of every image before a frozen backbone.

    Args:
        backbone: Model from ``image`` to features.
        settings: Augmentation of training images.
        seed: Seed of the random layers.
        view: Number of the version: 0 is the image itself, others are augmented. If mirroring is on, odd views are
            mirrored and even ones not, so that two views cover a set with mirroring alone.

    Returns:
        Model from ``uint8`` images to features, for `predict`.
    """
    pixels, x = _pixels(backbone)
    if view and settings.mirror and view % 2:
        x = keras.ops.flip(x, axis=2)
    if view:
        for layer in augmentation(replace(settings, mirror=False), seed + 100 * view):
            x = _Always(layer)(x)
    return keras.Model(pixels, backbone(x))


def augmented_samples(images_nhwc_rgb_u8: NDArray[np.uint8], settings: AugmentSettings, seed: int) -> NDArray[np.uint8]:
    """Augment images once, as uint8 [n, H, W, 3] RGB, for the report."""
    x = images_nhwc_rgb_u8.astype(np.float32)
    for layer in augmentation(settings, seed):
        x = layer(x, training=True)
    changed: NDArray[np.uint8] = np.clip(np.rint(keras.ops.convert_to_numpy(x)), 0, 255).astype(np.uint8)
    return changed


def _pixels(model: Any) -> tuple[Any, Any]:
    pixels = keras.Input(model.input.shape[1:], dtype="uint8", name="pixels")
    return pixels, keras.ops.cast(pixels, "float32")
