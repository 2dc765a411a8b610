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

_BATCH_SIZE = 32


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


_OPTIMIZERS = {
    OptimizerName.ADAM: keras.optimizers.Adam,
    OptimizerName.ADAMW: keras.optimizers.AdamW,
    OptimizerName.RMSPROP: keras.optimizers.RMSprop,
    OptimizerName.SGD: lambda rate: keras.optimizers.SGD(rate, momentum=0.9, nesterov=True),
}
_WARMUP_START = 0.1  # share of the peak learning rate


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
    if settings.schedule is Schedule.COSINE:
        start, target = (_WARMUP_START * peak, peak) if rising else (peak, None)
        return keras.optimizers.schedules.CosineDecay(start, steps - rising, warmup_target=target, warmup_steps=rising)
    if not rising:
        return peak
    # Cosine decay with alpha 1 is constant.
    return keras.optimizers.schedules.CosineDecay(
        _WARMUP_START * peak, max(1, steps - rising), alpha=1.0, warmup_target=peak, warmup_steps=rising
    )


WHOLE, HEAD, FINETUNE = "all", "head", "finetune"


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
    """Prepare model and batches of a phase from epoch ``first_epoch`` on, counted from 0 within the phase."""
    if phase.name == HEAD:
        return _on_features(network, data, recipe, first_epoch)
    if phase.name == FINETUNE and recipe.finetune is not None:
        unfreeze(network.backbone, recipe.finetune.from_layer)
    fitted = augmented(network.model, recipe.augment, recipe.seed)
    train, validation = (data.rows(split) for split in (Split.TRAIN, Split.VALIDATION))
    images, rows = data.images_nhwc_rgb_u8, data.image_rows
    return Task(
        fitted,
        _train_batches(images, data.targets[train], data, recipe, first_epoch, rows[train]),
        _validation_batches(images, data.targets[validation], data, recipe, rows[validation]),
    )


def _on_features(network: Network, data: TrainingData, recipe: Recipe, first_epoch: int) -> Task:
    """Compute the features of every image and of the augmented views of training images once."""
    views = recipe.backbone.views if recipe.backbone else 1
    everything = np.arange(len(data.samples))
    train, validation = (data.rows(split) for split in (Split.TRAIN, Split.VALIDATION))
    started = time.perf_counter()
    features = _features(network, data, recipe, 0, everything)
    augmented_features = [_features(network, data, recipe, view, train) for view in range(1, views)]
    rate = (len(features) + sum(map(len, augmented_features))) / (time.perf_counter() - started)
    inputs = np.concatenate([features[train], *augmented_features])
    targets = np.tile(data.targets[train], views)
    return Task(
        network.head,
        _train_batches(inputs, targets, data, recipe, first_epoch),
        _validation_batches(features[validation], data.targets[validation], data, recipe),
        features,
        rate,
    )


def _features(
    network: Network, data: TrainingData, recipe: Recipe, view: int, rows: NDArray[np.intp]
) -> NDArray[np.float32]:
    model = augmented_view(network.backbone, recipe.augment, recipe.seed, view)
    return predict(model, data.images_nhwc_rgb_u8, data.image_rows[rows], "features")


def _train_batches(
    inputs: NDArray[Any],
    targets: NDArray[np.int64],
    data: TrainingData,
    recipe: Recipe,
    first_epoch: int,
    rows: NDArray[np.intp] | None = None,
) -> Batches:
    return Batches(
        inputs,
        target_rows(targets, len(data.labels), recipe.head),
        recipe.fit.batch_size,
        rows=rows,
        seed=recipe.seed,
        weights=sample_weights(targets, len(data.labels), recipe.loss),
        mixup=recipe.augment.mixup,
        steps=recipe.fit.steps_per_epoch,
        first_epoch=first_epoch,
    )


def _validation_batches(
    inputs: NDArray[Any],
    targets: NDArray[np.int64],
    data: TrainingData,
    recipe: Recipe,
    rows: NDArray[np.intp] | None = None,
) -> Batches:
    encoded = target_rows(targets, len(data.labels), recipe.head)
    return Batches(inputs, encoded, recipe.fit.batch_size, rows=rows)
