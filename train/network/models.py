"""Build the networks in Keras 3: backbones, heads, and the float32 model that is measured and saved.

Every model takes ``image``, float32 [n, H, W, 3] RGB 0..255, scales it inside the graph, and gives ``probabilities``,
float32 [n, labels] of a softmax, or [n, 1] of a sigmoid. Augmentation is in `train.network.augmentation`.
"""

from __future__ import annotations

import contextlib
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from edge_runtime.contract import Head
from edge_runtime.errors import IntegrityError, UsageError
from train.hardware import FLOAT32
from train.network.weights import not_these_weights
from train.recipe import (
    WEIGHTS_IMAGENET,
    WEIGHTS_NONE,
    BackboneName,
    BackboneSettings,
    CnnSettings,
    HeadSettings,
    Pool,
    Recipe,
)

OUTPUT_LAYER = "probabilities"
_SCALE_LAYER = "scale"
_BACKBONES = {
    BackboneName.MOBILENETV2: keras.applications.MobileNetV2,
    BackboneName.MOBILENETV3_SMALL: keras.applications.MobileNetV3Small,
    BackboneName.MOBILENETV3_LARGE: keras.applications.MobileNetV3Large,
    BackboneName.EFFICIENTNET_B0: keras.applications.EfficientNetB0,
    BackboneName.EFFICIENTNETV2_B0: keras.applications.EfficientNetV2B0,
}
_POOLS = {
    Pool.AVERAGE: keras.layers.GlobalAveragePooling2D,
    Pool.MAX: keras.layers.GlobalMaxPooling2D,
    Pool.FLATTEN: keras.layers.Flatten,
}
# With Keras' default 0.99 the statistics lag epochs behind in the few hundred steps of a small set.
_MOMENTUM = 0.9


@dataclass(frozen=True)
class Network:
    """Model, and its two halves if the lower one is frozen.

    Attributes:
        model: Saved model from ``image`` to ``probabilities``.
        backbone: Frozen model from ``image`` to features; None if the whole model is trained.
        head: Model from features to ``probabilities``, sharing its layers with ``model``; None without a backbone.
    """

    model: Any
    backbone: Any | None = None
    head: Any | None = None


def build(recipe: Recipe, label_count: int) -> Network:
    """Build the network of a recipe.

    Raises:
        IntegrityError: The weight file does not fit.
        UsageError: The ImageNet weights cannot be downloaded, or the recipe does not fit the labels or layers.
    """
    if recipe.head.kind is Head.SIGMOID and label_count != 2:
        raise UsageError(
            f"recipe {recipe.name}: a sigmoid head needs two classes, got {label_count}; set head.kind=softmax"
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


def build_backbone(image: Any, settings: BackboneSettings) -> Any:
    """Build an average-pooled backbone with the weights of the settings.

    Args:
        image: Keras tensor, float32 [n, H, W, 3] RGB 0..255.
        settings: Name, width and initial weights of the backbone.

    Returns:
        Keras model from ``image`` to features [n, d]. It scales pixels itself: to -1..1 for MobileNetV2, otherwise by
        the first layers of the network (https://keras.io/api/applications).

    Raises:
        IntegrityError: The weight file does not fit the network.
        UsageError: The ImageNet weights cannot be downloaded.
    """
    if settings.weights == WEIGHTS_IMAGENET:
        return _downloaded(image, settings)
    body = _construct(image, settings, None)
    if settings.weights != WEIGHTS_NONE:
        path = Path(settings.weights)
        try:
            body.load_weights(path)
        except (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
            reason = f"Keras cannot load it ({str(error).splitlines()[0]})"
            raise IntegrityError(not_these_weights(path, settings.name, reason)) from error
    return body


def _construct(image: Any, settings: BackboneSettings, weights: str | None) -> Any:
    width: dict[str, float] = {}
    if settings.name is BackboneName.MOBILENETV2:
        image = keras.layers.Rescaling(1.0 / 127.5, offset=-1.0, name=_SCALE_LAYER)(image)
    if len(settings.name.alphas) > 1:
        width["alpha"] = settings.alpha
    network = _BACKBONES[settings.name]
    return network(input_tensor=image, include_top=False, weights=weights, pooling="avg", **width)


def _downloaded(image: Any, settings: BackboneSettings) -> Any:
    """Build a backbone with the published weights, from Keras' cache or downloaded; they fit any input size."""
    try:
        # Keras prints the download to standard output, which is for results, and warns of other input sizes.
        with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _construct(image, settings, WEIGHTS_IMAGENET)
    except Exception as error:
        # keras.utils.get_file raises Exception itself when a download fails.
        if not isinstance(error, OSError) and not isinstance(error.__context__, OSError):
            raise
        raise UsageError(
            "the ImageNet weights cannot be downloaded (no network?); give a file with --weights FILE.h5, "
            f"the no-top weights of a Keras {settings.name.value}"
        ) from error


def numbered_layers(backbone: Any) -> list[Any]:
    """List the layers as `keras.applications` numbers them: 0 is the input; the added scaling is not counted."""
    return [layer for layer in backbone.layers if layer.name != _SCALE_LAYER]


def unfreeze(backbone: Any, from_layer: int) -> None:
    """Make the upper layers of a frozen backbone trainable, except batch normalisations.

    Those would replace the statistics of the original training by statistics of a few small batches.

    Args:
        backbone: Frozen backbone of a `Network`.
        from_layer: First trainable layer, as `keras.applications` numbers them.
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
    # Batch normalisation adds an offset, so the convolution before it needs no bias.
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
    # The order of construction decides the initial weights of a seed.
    layers.append(keras.layers.Dropout(settings.dropout, name="dropout"))
    units = 1 if settings.kind is Head.SIGMOID else label_count
    # Always float32, which probabilities near 0 and 1 need.
    output = keras.layers.Dense(units, activation=settings.kind.value, dtype="float32", name=OUTPUT_LAYER)
    return [*layers, output]


def _stack(x: Any, layers: list[Any]) -> Any:
    for layer in layers:
        x = layer(x)
    return x


def plain_model(model: Any) -> Any:
    """Copy a model with its weights in float32, outside of any distribution scope.

    Layers keep the precision of their construction in the saved file, and conversion would meet casts.
    """
    keras.config.set_dtype_policy(FLOAT32)
    copy = keras.models.clone_model(
        model, clone_function=lambda layer: layer.__class__.from_config({**layer.get_config(), "dtype": FLOAT32})
    )
    copy.set_weights(model.get_weights())
    return copy
