"""The networks, in Keras 3 without any backend's own calls.

Every model takes ``image``, float32 [n, H, W, 3] RGB 0..255, scales it inside the graph, and gives ``probabilities``,
float32 [n, labels], a softmax. Augmentation is never part of it: `augmented` wraps a model while it is trained.
"""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from edge_runtime.errors import IntegrityError, UsageError
from train.recipe import (
    WEIGHTS_IMAGENET,
    WEIGHTS_NONE,
    AugmentSettings,
    CnnSettings,
    MobileNetV2Settings,
    Pool,
    Recipe,
)
from train.weights import not_mobilenetv2

_POOLS = {
    Pool.AVERAGE: keras.layers.GlobalAveragePooling2D,
    Pool.MAX: keras.layers.GlobalMaxPooling2D,
    Pool.FLATTEN: keras.layers.Flatten,
}

# Keras' 0.99 forgets too slowly for the few hundred steps of a small set: validation would lag epochs behind.
_MOMENTUM = 0.9


@dataclass(frozen=True)
class Network:
    """A model, and its two halves where the lower one is frozen.

    Attributes:
        model: ``image`` to ``probabilities``; what is saved.
        backbone: ``image`` to features, frozen; None where the whole model is trained.
        head: Features to ``probabilities``, sharing its layers with ``model``; None likewise.
    """

    model: Any
    backbone: Any | None = None
    head: Any | None = None


def build(recipe: Recipe, label_count: int) -> Network:
    """Build the recipe's network.

    Raises:
        IntegrityError: The weight file does not fit.
        UsageError: The ImageNet weights cannot be downloaded.
    """
    image = keras.Input((recipe.input.image_size, recipe.input.image_size, 3), name="image")
    scaled = keras.layers.Rescaling(1.0 / 127.5, offset=-1.0, name="scale")(image)
    if recipe.cnn is not None:
        features = _cnn_features(scaled, recipe.cnn)
        head = _head_layers(label_count, recipe.cnn.dense_units, recipe.cnn.dropout)
        return Network(keras.Model(image, _stack(features, head), name="cnn"))
    if recipe.mobilenetv2 is None:
        raise ValueError("a recipe holds one architecture")
    return _mobilenetv2(image, scaled, recipe.mobilenetv2, label_count)


def augmented(model: Any, settings: AugmentSettings, seed: int) -> Any:
    """Put random layers before a model; they act in ``fit`` and are transparent in validation.

    Args:
        model: ``image`` to ``probabilities``. Its weights are shared, so it is trained along.
        settings: What may change.
        seed: Of the changes.

    Returns:
        A model to fit; ``model`` itself where nothing may change.
    """
    layers = keras.layers
    border = {"fill_mode": "reflect"}
    chosen = [
        layers.RandomFlip("horizontal", seed=seed) if settings.mirror else None,
        layers.RandomRotation(settings.rotation, seed=seed + 1, **border) if settings.rotation else None,
        layers.RandomTranslation(settings.shift, settings.shift, seed=seed + 2, **border) if settings.shift else None,
        layers.RandomZoom(settings.zoom, seed=seed + 3, **border) if settings.zoom else None,
        layers.RandomBrightness(settings.brightness, seed=seed + 4) if settings.brightness else None,
        layers.RandomContrast(settings.contrast, seed=seed + 5) if settings.contrast else None,
    ]
    active = [layer for layer in chosen if layer is not None]
    return keras.Sequential([keras.Input(model.input.shape[1:]), *active, model]) if active else model


def _cnn_features(scaled: Any, settings: CnnSettings) -> Any:
    x = scaled
    for block, filters in enumerate(settings.filters, start=1):
        kernel, stride = (settings.first_kernel, 2) if block == 1 else (3, 1)
        # Batch normalisation brings its own offset, so the convolution needs no bias.
        x = keras.layers.Conv2D(
            filters, kernel, strides=stride, padding="same", use_bias=False, name=f"block{block}_conv"
        )(x)
        x = keras.layers.BatchNormalization(momentum=_MOMENTUM, name=f"block{block}_bn")(x)
        x = keras.layers.ReLU(name=f"block{block}_relu")(x)
        if block > 1:
            x = keras.layers.MaxPooling2D(name=f"block{block}_pool")(x)
    return _POOLS[settings.pool](name="features")(x)


def _head_layers(label_count: int, dense_units: int, dropout: float) -> list[Any]:
    hidden = [
        keras.layers.Dropout(dropout, name="dropout_hidden"),
        keras.layers.Dense(dense_units, activation="relu", name="hidden"),
    ]
    return [
        *(hidden if dense_units else []),
        keras.layers.Dropout(dropout, name="dropout"),
        keras.layers.Dense(label_count, activation="softmax", name="probabilities"),
    ]


def _stack(x: Any, layers: list[Any]) -> Any:
    for layer in layers:
        x = layer(x)
    return x


def _mobilenetv2(image: Any, scaled: Any, settings: MobileNetV2Settings, label_count: int) -> Network:
    body = keras.applications.MobileNetV2(
        input_tensor=scaled, alpha=settings.alpha, include_top=False, weights=None, pooling="avg"
    )
    _load_weights(body, settings)
    head_layers = _head_layers(label_count, settings.dense_units, settings.dropout)
    model = keras.Model(image, _stack(body.output, head_layers), name="mobilenetv2")
    if not settings.is_frozen:
        return Network(model)
    body.trainable = False
    features = keras.Input(body.output.shape[1:], name="features")
    return Network(model, keras.Model(image, body.output), keras.Model(features, _stack(features, head_layers)))


def _load_weights(body: Any, settings: MobileNetV2Settings) -> None:
    if settings.weights == WEIGHTS_NONE:
        return
    if settings.weights == WEIGHTS_IMAGENET:
        body.set_weights(_imagenet(settings.alpha).get_weights())
        return
    path = Path(settings.weights)
    try:
        body.load_weights(path)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise IntegrityError(not_mobilenetv2(path, f"Keras cannot load it ({str(error).splitlines()[0]})")) from error


def _imagenet(alpha: float) -> Any:
    """The published weights, which do not depend on the input's size, downloaded or from Keras' cache."""
    try:
        # Keras shows the download on standard output, which is for results.
        with contextlib.redirect_stdout(sys.stderr):
            return keras.applications.MobileNetV2(
                input_shape=(224, 224, 3), alpha=alpha, include_top=False, weights=WEIGHTS_IMAGENET, pooling="avg"
            )
    except Exception as error:
        # keras.utils.get_file raises Exception itself when a download fails.
        if not isinstance(error, OSError) and not isinstance(error.__context__, OSError):
            raise
        raise UsageError(
            "the ImageNet weights cannot be downloaded (no network?); give a file with --weights FILE.h5, "
            "the no-top weights of a Keras MobileNetV2"
        ) from error
