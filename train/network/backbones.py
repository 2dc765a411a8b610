"""Backbones of `keras.applications`, each with its own pixel range inside the graph."""

from __future__ import annotations

import contextlib
import sys
import warnings
from pathlib import Path
from typing import Any

import keras

from edge_runtime.errors import IntegrityError, UsageError
from train.choices import BackboneName
from train.network.weights import not_these_weights
from train.settings import WEIGHTS_IMAGENET, WEIGHTS_NONE, BackboneSettings

_SCALE_LAYER = "scale"


def build_backbone(image: Any, settings: BackboneSettings) -> Any:
    """Build a backbone on ``image``, average pooled, with the weights that the settings name.

    Args:
        image: Keras tensor, float32 [n, H, W, 3] RGB 0..255.
        settings: Which, how wide and what to start from.

    Returns:
        A Keras model, ``image`` to features [n, d]. Pixels are scaled inside: to -1..1 for MobileNetV2, and by the
        network's own first layers for the others (https://keras.io/api/applications).

    Raises:
        IntegrityError: The weight file does not fit.
        UsageError: The ImageNet weights cannot be downloaded.
    """
    if settings.weights == WEIGHTS_IMAGENET:
        return _downloaded(image, settings)
    body = _construct(image, settings, None)
    if settings.weights != WEIGHTS_NONE:
        _load(body, settings)
    return body


def numbered_layers(backbone: Any) -> list[Any]:
    """The layers as `keras.applications` numbers them: 0 is the input, and our scaling is not one of them."""
    return [layer for layer in backbone.layers if layer.name != _SCALE_LAYER]


def _construct(image: Any, settings: BackboneSettings, weights: str | None) -> Any:
    applications = keras.applications
    common: dict[str, Any] = {"include_top": False, "weights": weights, "pooling": "avg"}
    if settings.name is BackboneName.MOBILENETV2:
        scaled = keras.layers.Rescaling(1.0 / 127.5, offset=-1.0, name=_SCALE_LAYER)(image)
        return applications.MobileNetV2(input_tensor=scaled, alpha=settings.alpha, **common)
    if settings.name is BackboneName.MOBILENETV3_SMALL:
        return applications.MobileNetV3Small(input_tensor=image, alpha=settings.alpha, **common)
    if settings.name is BackboneName.MOBILENETV3_LARGE:
        return applications.MobileNetV3Large(input_tensor=image, alpha=settings.alpha, **common)
    if settings.name is BackboneName.EFFICIENTNET_B0:
        return applications.EfficientNetB0(input_tensor=image, **common)
    return applications.EfficientNetV2B0(input_tensor=image, **common)


def _load(body: Any, settings: BackboneSettings) -> None:
    path = Path(settings.weights)
    try:
        body.load_weights(path)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
        reason = f"Keras cannot load it ({str(error).splitlines()[0]})"
        raise IntegrityError(not_these_weights(path, settings.name, reason)) from error


def _downloaded(image: Any, settings: BackboneSettings) -> Any:
    """With the published weights, which do not depend on the input's size, downloaded or from Keras' cache."""
    try:
        # Keras shows the download on standard output, which is for results, and warns of sizes other than its own.
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
