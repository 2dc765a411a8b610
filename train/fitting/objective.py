"""What training minimises, and how: loss, targets, weights and optimiser."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from edge_runtime.contract import Head
from train.backend import jit_compile
from train.choices import ClassWeights, OptimizerName, Schedule
from train.fitting.pipeline import PADDING_TARGET
from train.recipe import Recipe
from train.settings import HeadSettings, LossSettings, OptimizerSettings

_OPTIMIZERS = {
    OptimizerName.ADAM: keras.optimizers.Adam,
    OptimizerName.ADAMW: keras.optimizers.AdamW,
    OptimizerName.RMSPROP: keras.optimizers.RMSprop,
    OptimizerName.SGD: lambda rate: keras.optimizers.SGD(rate, momentum=0.9, nesterov=True),
}
_WARMUP_START = 0.1  # share of the highest learning rate


class _BinaryAccuracy(keras.metrics.BinaryAccuracy):
    """Without rows that only fill a batch up."""

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:  # noqa: ARG002 - Keras passes it
        return super().update_state(y_true, y_pred, _is_counted(y_true))


class _CategoricalAccuracy(keras.metrics.CategoricalAccuracy):
    """Without rows that only fill a batch up."""

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:  # noqa: ARG002 - Keras passes it
        return super().update_state(y_true, y_pred, _is_counted(y_true))


def _is_counted(targets: Any) -> Any:
    return keras.ops.cast(targets[:, 0] != PADDING_TARGET, "float32")


def compile_model(model: Any, recipe: Recipe, optimizer: OptimizerSettings, steps: int) -> None:
    """Give a model its loss, its metric ``accuracy`` and an optimiser whose schedule spans ``steps`` steps."""
    smoothing = recipe.loss.label_smoothing
    losses = keras.losses
    is_sigmoid = recipe.head.kind is Head.SIGMOID
    loss = losses.BinaryCrossentropy if is_sigmoid else losses.CategoricalCrossentropy
    metric = _BinaryAccuracy if is_sigmoid else _CategoricalAccuracy
    model.compile(
        _OPTIMIZERS[optimizer.name](_learning_rate(optimizer, steps)),
        loss(label_smoothing=smoothing),
        metrics=[metric(name="accuracy")],
        jit_compile=jit_compile(),
    )


def target_rows(targets: NDArray[np.int64], label_count: int, head: HeadSettings) -> NDArray[np.float32]:
    """What the model should answer: one-hot float32 [n, labels], or [n, 1] for a sigmoid head."""
    if head.kind is Head.SIGMOID:
        return targets[:, np.newaxis].astype(np.float32)
    return np.eye(label_count, dtype=np.float32)[targets]


def sample_weights(targets: NDArray[np.int64], label_count: int, loss: LossSettings) -> NDArray[np.float32] | None:
    """How much each picture counts: float32 [n] with mean 1, or None where all count the same."""
    if loss.class_weights is ClassWeights.EQUAL:
        return None
    counts = np.maximum(np.bincount(targets, minlength=label_count), 1)
    return (len(targets) / (label_count * counts))[targets].astype(np.float32)


def _learning_rate(settings: OptimizerSettings, steps: int) -> Any:
    """The learning rate by step: a line up to the peak, then a cosine to 0 (arXiv:1608.03983) or a constant."""
    peak, rising = settings.learning_rate, round(settings.warmup * steps)
    if settings.schedule is Schedule.COSINE:
        start, target = (_WARMUP_START * peak, peak) if rising else (peak, None)
        return keras.optimizers.schedules.CosineDecay(start, steps - rising, warmup_target=target, warmup_steps=rising)
    if not rising:
        return peak
    # A cosine that does not fall is a constant.
    return keras.optimizers.schedules.CosineDecay(
        _WARMUP_START * peak, max(1, steps - rising), alpha=1.0, warmup_target=peak, warmup_steps=rising
    )
