"""What can be said of a model file before any library loads it."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Loader(str, enum.Enum):
    """The library that loads a model."""

    KERAS3 = "keras 3"
    TF_KERAS = "tf-keras"
    SAVED_MODEL = "saved model"


@dataclass(frozen=True)
class ModelFacts:
    """What a model file says of itself; what it leaves open is seen once it is loaded.

    Attributes:
        shown: Format and version in words, for the report.
        loader: What loads it.
        input_shape: [batch, height, width, channels] with None for an open size, or None where the file does not say.
        output_width: Number of output values, or None where the file does not say.
        own_scaling: The factor by which the model's first layer multiplies the pixels, or None if it has no such layer.
    """

    shown: str
    loader: Loader
    input_shape: tuple[int | None, ...] | None
    output_width: int | None
    own_scaling: float | None
