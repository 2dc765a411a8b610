"""The trained model as it is measured and saved: float32 everywhere, on one device."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras

from train.hardware import FLOAT32
from train.network.models import Network, build
from train.recipe import Recipe
from train.settings import WEIGHTS_NONE


def plain_model(network: Network, recipe: Recipe, label_count: int) -> Any:
    """Build the network again in float32 and outside of any scope, and give it the trained weights.

    Layers keep the precision that they were built with, also in the saved file, and conversion would meet casts.
    """
    keras.config.set_dtype_policy(FLOAT32)
    if recipe.backbone is not None:
        # The weight file need not be read again.
        recipe = replace(recipe, backbone=replace(recipe.backbone, weights=WEIGHTS_NONE), finetune=None)
    model = build(recipe, label_count).model
    model.set_weights(network.model.get_weights())
    return model
