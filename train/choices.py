"""What a recipe's fields of text may say."""

from __future__ import annotations

import enum

MOBILENETV2_ALPHAS = (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)


class Pool(str, enum.Enum):
    """How the last feature map becomes one vector."""

    AVERAGE = "average"
    MAX = "max"
    FLATTEN = "flatten"


class BackboneName(str, enum.Enum):
    """Networks of `keras.applications` that deploy well."""

    MOBILENETV2 = "mobilenetv2"
    MOBILENETV3_SMALL = "mobilenetv3-small"
    MOBILENETV3_LARGE = "mobilenetv3-large"
    EFFICIENTNET_B0 = "efficientnet-b0"
    EFFICIENTNETV2_B0 = "efficientnetv2-b0"

    @property
    def alphas(self) -> tuple[float, ...]:
        """Width multipliers for which ImageNet weights are published."""
        if self is BackboneName.MOBILENETV2:
            return MOBILENETV2_ALPHAS
        return (0.75, 1.0) if self in (BackboneName.MOBILENETV3_SMALL, BackboneName.MOBILENETV3_LARGE) else (1.0,)


class OptimizerName(str, enum.Enum):
    """Optimisers of Keras."""

    ADAM = "adam"
    ADAMW = "adamw"
    RMSPROP = "rmsprop"
    SGD = "sgd"


class Schedule(str, enum.Enum):
    """How the learning rate goes on after warm-up."""

    CONSTANT = "constant"
    COSINE = "cosine"


class ClassWeights(str, enum.Enum):
    """How much a picture counts in the loss."""

    EQUAL = "equal"
    BALANCED = "balanced"


class ThresholdRule(str, enum.Enum):
    """Where a sigmoid head's answer turns from the first label to the second."""

    HALF = "half"
    F1 = "f1"
