"""Random augmentation of training images as Keras layers, under every backend."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from train.recipe import AugmentSettings

_PIXEL_RANGE = (0, 255)


def augmentation(settings: AugmentSettings, seed: int) -> list[Any]:
    """Random layers, float32 [n, H, W, 3] RGB 0..255 to the same; empty where nothing may change."""
    layers = keras.layers
    # Layers draw from sequences of their own, so that leaving one out does not change what the others do.
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
    """A random layer that acts in ``predict`` too, where Keras tells every layer of a graph that it does not train."""

    def __init__(self, layer: Any) -> None:
        super().__init__(dtype="float32")
        self.layer = layer

    def call(self, images: Any) -> Any:
        """Change the images."""
        return self.layer(images, training=True)


def augmented(model: Any, settings: AugmentSettings, seed: int) -> Any:
    """Put random layers before a model; they act in ``fit`` and are transparent in validation.

    Args:
        model: ``image`` to anything. Its weights are shared, so it is trained along.
        settings: What may change.
        seed: Of the changes.

    Returns:
        A model of ``uint8`` images to fit: bytes travel to the accelerator, not floats.
    """
    pixels, x = _pixels(model)
    for layer in augmentation(settings, seed):
        x = layer(x)
    return keras.Model(pixels, model(x))


def augmented_view(backbone: Any, settings: AugmentSettings, seed: int, view: int) -> Any:
    """A frozen backbone behind one fixed version of every image.

    Args:
        backbone: ``image`` to features.
        settings: What may change.
        seed: Of the changes.
        view: 0 is the image itself. Others are changed at random, and mirrored where that is allowed and ``view`` is
            odd, so that two views of a set that may only be mirrored are all there are.

    Returns:
        A model of ``uint8`` images to features, for `predict`.
    """
    pixels, x = _pixels(backbone)
    if view and settings.mirror and view % 2:
        x = keras.ops.flip(x, axis=2)
    if view:
        for layer in augmentation(replace(settings, mirror=False), seed + 100 * view):
            x = _Always(layer)(x)
    return keras.Model(pixels, backbone(x))


def augmented_samples(images_nhwc_rgb_u8: NDArray[np.uint8], settings: AugmentSettings, seed: int) -> NDArray[np.uint8]:
    """Show what augmentation does: the same images changed, uint8 [n, H, W, 3] RGB."""
    x = images_nhwc_rgb_u8.astype(np.float32)
    for layer in augmentation(settings, seed):
        x = layer(x, training=True)
    changed: NDArray[np.uint8] = np.clip(np.rint(keras.ops.convert_to_numpy(x)), 0, 255).astype(np.uint8)
    return changed


def _pixels(model: Any) -> tuple[Any, Any]:
    pixels = keras.Input(model.input.shape[1:], dtype="uint8", name="pixels")
    return pixels, keras.ops.cast(pixels, "float32")
