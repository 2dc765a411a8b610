"""Phases of a training: their data, their objective, and batched prediction of frozen features."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from edge_runtime.contract import Head
from edge_runtime.progress import progress_bar
from edge_runtime.workstation.datasets.samples import Split
from train.distribution import current_shard, gathered
from train.fitting.callbacks import PredictProgress
from train.fitting.pipeline import PADDING_TARGET, Batches
from train.hardware import jit_compile
from train.intake.images import TrainingData
from train.network.augmentation import augmented, augmented_view
from train.network.models import Network, unfreeze
from train.recipe import ClassWeights, HeadSettings, LossSettings, OptimizerName, OptimizerSettings, Recipe, Schedule

WHOLE, HEAD, FINETUNE = "all", "head", "finetune"
_BATCH_SIZE = 32
_OPTIMIZERS = {
    OptimizerName.ADAM: keras.optimizers.Adam,
    OptimizerName.ADAMW: keras.optimizers.AdamW,
    OptimizerName.RMSPROP: keras.optimizers.RMSprop,
    OptimizerName.SGD: lambda rate: keras.optimizers.SGD(rate, momentum=0.9, nesterov=True),
}
_WARMUP_START = 0.1  # share of the peak learning rate


def predict(
    model: Any, images_nhwc_rgb_u8: NDArray[np.uint8], rows: NDArray[np.intp], label: str
) -> NDArray[np.float32]:
    """Run a model over images, with a progress bar.

    Args:
        model: Keras model from images to vectors.
        images_nhwc_rgb_u8: uint8 [any, H, W, 3] RGB; may be a memory map.
        rows: intp [n], rows of the images to predict.
        label: Text of the progress bar.

    Returns:
        float32 [n, d].
    """
    targets = np.zeros((len(rows), 1), np.float32)
    batch_size = current_shard().filled_count(_BATCH_SIZE)
    with progress_bar(label, len(rows)) as progress:
        result: NDArray[np.float32] = gathered(model).predict(
            Batches(images_nhwc_rgb_u8, targets, batch_size, rows=rows),
            verbose=0,
            callbacks=[PredictProgress(len(rows), batch_size, progress)],
        )
    # Drop the padding of the last batch.
    return result[: len(rows)].astype(np.float32, copy=False)


class _BinaryAccuracy(keras.metrics.BinaryAccuracy):
    """Accuracy without padding."""

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:  # noqa: ARG002 - Keras passes it
        return super().update_state(y_true, y_pred, _is_counted(y_true))


class _CategoricalAccuracy(keras.metrics.CategoricalAccuracy):
    """Accuracy without padding."""

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:  # noqa: ARG002 - Keras passes it
        return super().update_state(y_true, y_pred, _is_counted(y_true))


def _is_counted(targets: Any) -> Any:
    return keras.ops.cast(targets[:, 0] != PADDING_TARGET, "float32")


def compile_model(model: Any, recipe: Recipe, optimizer: OptimizerSettings, steps: int) -> None:
    """Compile a model with loss, metric ``accuracy`` and an optimiser whose schedule spans ``steps`` steps."""
    is_sigmoid = recipe.head.kind is Head.SIGMOID
    loss = keras.losses.BinaryCrossentropy if is_sigmoid else keras.losses.CategoricalCrossentropy
    metric = _BinaryAccuracy if is_sigmoid else _CategoricalAccuracy
    model.compile(
        _OPTIMIZERS[optimizer.name](_learning_rate(optimizer, steps)),
        loss(label_smoothing=recipe.loss.label_smoothing),
        metrics=[metric(name="accuracy")],
        jit_compile=jit_compile(),
    )


def target_rows(targets: NDArray[np.int64], label_count: int, head: HeadSettings) -> NDArray[np.float32]:
    """Encode targets: one-hot float32 [n, labels], or [n, 1] for a sigmoid head."""
    if head.kind is Head.SIGMOID:
        return targets[:, np.newaxis].astype(np.float32)
    return np.eye(label_count, dtype=np.float32)[targets]


def sample_weights(targets: NDArray[np.int64], label_count: int, loss: LossSettings) -> NDArray[np.float32] | None:
    """Compute the weight of each image, float32 [n] with mean 1; None for equal weights."""
    if loss.class_weights is ClassWeights.EQUAL:
        return None
    counts = np.maximum(np.bincount(targets, minlength=label_count), 1)
    return (len(targets) / (label_count * counts))[targets].astype(np.float32)


def _learning_rate(settings: OptimizerSettings, steps: int) -> Any:
    """Build the schedule: linear warm-up, then cosine decay to 0 (arXiv:1608.03983) or a constant."""
    peak, rising = settings.learning_rate, round(settings.warmup * steps)
    if settings.schedule is Schedule.CONSTANT and not rising:
        return peak
    start, target = (_WARMUP_START * peak, peak) if rising else (peak, None)
    # Cosine decay with alpha 1 is constant.
    alpha = 0.0 if settings.schedule is Schedule.COSINE else 1.0
    return keras.optimizers.schedules.CosineDecay(
        start, max(1, steps - rising), alpha=alpha, warmup_target=target, warmup_steps=rising
    )


@dataclass(frozen=True)
class Phase:
    """Phase of a training: ``all`` of the network, ``head`` on frozen features, or ``finetune`` of upper layers.

    Attributes:
        name: ``all``, ``head`` or ``finetune``.
        epochs: Maximum number of epochs.
        optimizer: Optimiser and learning rate of the phase.
    """

    name: str
    epochs: int
    optimizer: OptimizerSettings


@dataclass(frozen=True)
class Task:
    """Model and batches of a phase.

    Attributes:
        fitted: Keras model to fit; it shares its weights with the whole network.
        train: Batches of training images or features.
        validation: Validation batches, never augmented.
        features: float32 [images, d], features of every image from the frozen backbone; None without one.
        feature_images_per_second: Images per second through the frozen backbone; None without one.
    """

    fitted: Any
    train: Batches
    validation: Batches
    features: NDArray[np.float32] | None = None
    feature_images_per_second: float | None = None


def phases_of(recipe: Recipe) -> tuple[Phase, ...]:
    """List the phases of a recipe in order."""
    if recipe.backbone is None or not recipe.backbone.is_frozen:
        return (Phase(WHOLE, recipe.fit.epochs, recipe.optimizer),)
    head = Phase(HEAD, recipe.fit.epochs, recipe.optimizer)
    if recipe.finetune is None or not recipe.finetunes:
        return (head,)
    optimizer = replace(recipe.optimizer, name=recipe.finetune.optimizer, learning_rate=recipe.finetune.learning_rate)
    return head, Phase(FINETUNE, recipe.finetune.epochs, optimizer)


def prepare_task(phase: Phase, network: Network, data: TrainingData, recipe: Recipe, first_epoch: int) -> Task:
    """Prepare model and batches of a phase from epoch ``first_epoch`` on, counted from 0 within the phase.

    For the phase ``head`` the features of every image, and of the augmented views of training images, are computed
    once.
    """
    train, validation = (data.rows(split) for split in (Split.TRAIN, Split.VALIDATION))
    train_targets, validation_targets = data.targets[train], data.targets[validation]
    if phase.name != HEAD:
        if phase.name == FINETUNE and recipe.finetune is not None:
            unfreeze(network.backbone, recipe.finetune.from_layer)
        images, rows = data.images_nhwc_rgb_u8, data.image_rows
        return Task(
            augmented(network.model, recipe.augment, recipe.seed),
            _batches(images, train_targets, data, recipe, rows[train], first_epoch),
            _batches(images, validation_targets, data, recipe, rows[validation]),
        )
    views = recipe.backbone.views if recipe.backbone else 1
    started = time.perf_counter()
    features = _features(network, data, recipe, 0, np.arange(len(data.samples)))
    augmented_features = [_features(network, data, recipe, view, train) for view in range(1, views)]
    rate = (len(features) + sum(map(len, augmented_features))) / (time.perf_counter() - started)
    inputs = np.concatenate([features[train], *augmented_features])
    return Task(
        network.head,
        _batches(inputs, np.tile(train_targets, views), data, recipe, None, first_epoch),
        _batches(features[validation], validation_targets, data, recipe),
        features,
        rate,
    )


def _features(
    network: Network, data: TrainingData, recipe: Recipe, view: int, rows: NDArray[np.intp]
) -> NDArray[np.float32]:
    model = augmented_view(network.backbone, recipe.augment, recipe.seed, view)
    return predict(model, data.images_nhwc_rgb_u8, data.image_rows[rows], "features")


def _batches(
    inputs: NDArray[Any],
    targets: NDArray[np.int64],
    data: TrainingData,
    recipe: Recipe,
    rows: NDArray[np.intp] | None = None,
    first_epoch: int | None = None,
) -> Batches:
    """Make batches for training from an epoch on, or for validation without one."""
    count, size = len(data.labels), recipe.fit.batch_size
    encoded = target_rows(targets, count, recipe.head)
    if first_epoch is None:
        return Batches(inputs, encoded, size, rows=rows)
    return Batches(
        inputs,
        encoded,
        size,
        rows=rows,
        seed=recipe.seed,
        weights=sample_weights(targets, count, recipe.loss),
        mixup=recipe.augment.mixup,
        steps=recipe.fit.steps_per_epoch,
        first_epoch=first_epoch,
    )
