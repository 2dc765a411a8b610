"""The networks, in Keras 3 without any backend's own calls.

Every model takes ``image``, float32 [n, H, W, 3] RGB 0..255, scales it inside the graph, and gives ``probabilities``,
float32 [n, labels] of a softmax, or [n, 1] of a sigmoid. Augmentation is apart, in `train.network.augmentation`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras

from edge_runtime.contract import Head
from edge_runtime.errors import UsageError
from train.choices import Pool
from train.network.backbones import build_backbone, numbered_layers
from train.recipe import Recipe
from train.settings import CnnSettings, HeadSettings

OUTPUT_LAYER = "probabilities"

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
        UsageError: The ImageNet weights cannot be downloaded, or the recipe does not go with the labels or layers.
    """
    if recipe.head.kind is Head.SIGMOID and label_count != 2:
        raise UsageError(
            f"recipe {recipe.name}: a sigmoid head tells two classes apart, got {label_count}; set head.kind=softmax"
        )
    image = keras.Input((recipe.input.image_size, recipe.input.image_size, 3), name="image")
    head_layers = _head_layers(label_count, recipe.head)
    if recipe.cnn is not None:
        return Network(keras.Model(image, _stack(_cnn_features(image, recipe.cnn), head_layers), name="cnn"))
    if recipe.backbone is None:
        raise ValueError("a recipe holds one architecture")
    body = build_backbone(image, recipe.backbone)
    model = keras.Model(image, _stack(body.output, head_layers), name=recipe.backbone.name.value)
    if not recipe.backbone.is_frozen:
        return Network(model)
    if recipe.finetune is not None and recipe.finetune.from_layer >= len(numbered_layers(body)):
        raise UsageError(
            f"recipe {recipe.name}: finetune.from_layer must be below {len(numbered_layers(body))}, the number of "
            f"layers of {recipe.backbone.name.value}, got {recipe.finetune.from_layer}"
        )
    body.trainable = False
    features = keras.Input(body.output.shape[1:], name="features")
    return Network(model, keras.Model(image, body.output), keras.Model(features, _stack(features, head_layers)))


def unfreeze(backbone: Any, from_layer: int) -> None:
    """Let the upper layers of a frozen backbone be trained, all but batch normalisations.

    Those would take their statistics from a few small batches, and lose what they know of the weights' first training.

    Args:
        backbone: `Network.backbone`.
        from_layer: The first layer to train, as `keras.applications` numbers them.
    """
    for layer in numbered_layers(backbone)[from_layer:]:
        if not isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = True


def _cnn_features(image: Any, settings: CnnSettings) -> Any:
    scale = (settings.pixels_high - settings.pixels_low) / 255.0
    x = keras.layers.Rescaling(scale, offset=settings.pixels_low, name="scale")(image)
    for block, filters in enumerate(settings.filters, start=1):
        for number in range(1, settings.convolutions + 1):
            name = f"block{block}" if number == 1 else f"block{block}_{number}"
            is_first = block == number == 1
            kernel, stride = (settings.first_kernel, settings.first_stride) if is_first else (3, 1)
            x = _convolution(x, settings, filters, kernel, stride, name)
        if block > 1 or settings.first_stride == 1:
            x = keras.layers.MaxPooling2D(name=f"block{block}_pool")(x)
        if settings.block_dropout:
            x = keras.layers.Dropout(settings.block_dropout, name=f"block{block}_dropout")(x)
    return _POOLS[settings.pool](name="features")(x)


def _convolution(x: Any, settings: CnnSettings, filters: int, kernel: int, stride: int, name: str) -> Any:
    # Batch normalisation brings its own offset, so the convolution before it needs no bias.
    x = keras.layers.Conv2D(
        filters, kernel, strides=stride, padding="same", use_bias=not settings.batch_norm, name=f"{name}_conv"
    )(x)
    if settings.batch_norm:
        x = keras.layers.BatchNormalization(momentum=_MOMENTUM, name=f"{name}_bn")(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x)


def _head_layers(label_count: int, settings: HeadSettings) -> list[Any]:
    layers: list[Any] = []
    if settings.dense_units:
        layers.append(keras.layers.Dropout(settings.dropout, name="dropout_hidden"))
        layers.append(keras.layers.Dense(settings.dense_units, activation="relu", name="hidden"))
    layers.append(keras.layers.Dropout(settings.dropout, name="dropout"))
    is_sigmoid = settings.kind is Head.SIGMOID
    # In float32 also where the rest computes in 16 bits: probabilities near 0 and 1 need it.
    layers.append(
        keras.layers.Dense(
            1 if is_sigmoid else label_count, activation=settings.kind.value, dtype="float32", name=OUTPUT_LAYER
        )
    )
    return layers


def _stack(x: Any, layers: list[Any]) -> Any:
    for layer in layers:
        x = layer(x)
    return x
