"""The trained model as it is measured and saved: float32 everywhere, on one device."""

from __future__ import annotations

from typing import Any

import keras

from train.hardware import FLOAT32


def plain_model(model: Any) -> Any:
    """Copy a model, layer by layer, in float32 and outside of any scope, with its weights.

    Layers keep the precision that they were built with, also in the saved file, and conversion would meet casts.
    """
    keras.config.set_dtype_policy(FLOAT32)
    copy = keras.models.clone_model(model, clone_function=_in_float32)
    copy.set_weights(model.get_weights())
    return copy


def _in_float32(layer: Any) -> Any:
    return layer.__class__.from_config({**layer.get_config(), "dtype": FLOAT32})
