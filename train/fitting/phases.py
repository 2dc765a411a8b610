"""The phases of a training, and what each of them fits."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.datasets.samples import Split
from train.fitting.objective import sample_weights, target_rows
from train.fitting.pipeline import Batches
from train.fitting.prediction import predict
from train.intake.pictures import Pictures
from train.network.augmentation import augmented, augmented_view
from train.network.models import Network, unfreeze
from train.recipe import Recipe
from train.settings import OptimizerSettings

WHOLE, HEAD, FINETUNE = "all", "head", "finetune"


@dataclass(frozen=True)
class Phase:
    """A part of a training: ``all`` of the network, the ``head`` on frozen features, ``finetune`` of upper layers.

    Attributes:
        name: One of those.
        epochs: At most so many.
        optimizer: Of this phase.
    """

    name: str
    epochs: int
    optimizer: OptimizerSettings


@dataclass(frozen=True)
class Task:
    """What a phase fits, and on what.

    Attributes:
        fitted: The Keras model to fit; it shares its weights with the whole network.
        train: Training batches.
        validation: Validation batches, never augmented.
        features: float32 [pictures, d], what the frozen backbone makes of every picture; None where none was used.
        feature_images_per_second: Pictures per second through it; None likewise.
    """

    fitted: Any
    train: Batches
    validation: Batches
    features: NDArray[np.float32] | None = None
    feature_images_per_second: float | None = None


def phases_of(recipe: Recipe) -> tuple[Phase, ...]:
    """The phases that a recipe asks for, in order."""
    if recipe.backbone is None or not recipe.backbone.is_frozen:
        return (Phase(WHOLE, recipe.fit.epochs, recipe.optimizer),)
    head = Phase(HEAD, recipe.fit.epochs, recipe.optimizer)
    if recipe.finetune is None or not recipe.finetunes:
        return (head,)
    optimizer = replace(recipe.optimizer, name=recipe.finetune.optimizer, learning_rate=recipe.finetune.learning_rate)
    return head, Phase(FINETUNE, recipe.finetune.epochs, optimizer)


def prepare_task(phase: Phase, network: Network, pictures: Pictures, recipe: Recipe, first_epoch: int) -> Task:
    """Make ready what a phase fits, from epoch ``first_epoch`` on, counted from 0 within the phase."""
    if phase.name == HEAD:
        return _on_features(network, pictures, recipe, first_epoch)
    if phase.name == FINETUNE and recipe.finetune is not None:
        unfreeze(network.backbone, recipe.finetune.from_layer)
    fitted = augmented(network.model, recipe.augment, recipe.seed)
    train, validation = (pictures.rows(split) for split in (Split.TRAIN, Split.VALIDATION))
    images, rows = pictures.images_nhwc_rgb_u8, pictures.image_rows
    return Task(
        fitted,
        _train_batches(images, pictures.targets[train], pictures, recipe, first_epoch, rows[train]),
        _validation_batches(images, pictures.targets[validation], pictures, recipe, rows[validation]),
    )


def _on_features(network: Network, pictures: Pictures, recipe: Recipe, first_epoch: int) -> Task:
    """Push every picture, and the augmented views of the training pictures, through the frozen backbone once."""
    views = recipe.backbone.views if recipe.backbone else 1
    everything = np.arange(len(pictures.samples))
    train, validation = (pictures.rows(split) for split in (Split.TRAIN, Split.VALIDATION))
    started = time.perf_counter()
    features = _features(network, pictures, recipe, 0, everything)
    augmented_features = [_features(network, pictures, recipe, view, train) for view in range(1, views)]
    rate = (len(features) + sum(map(len, augmented_features))) / (time.perf_counter() - started)
    inputs = np.concatenate([features[train], *augmented_features])
    targets = np.tile(pictures.targets[train], views)
    return Task(
        network.head,
        _train_batches(inputs, targets, pictures, recipe, first_epoch),
        _validation_batches(features[validation], pictures.targets[validation], pictures, recipe),
        features,
        rate,
    )


def _features(
    network: Network, pictures: Pictures, recipe: Recipe, view: int, rows: NDArray[np.intp]
) -> NDArray[np.float32]:
    model = augmented_view(network.backbone, recipe.augment, recipe.seed, view)
    return predict(model, pictures.images_nhwc_rgb_u8, pictures.image_rows[rows], "features")


def _train_batches(
    inputs: NDArray[Any],
    targets: NDArray[np.int64],
    pictures: Pictures,
    recipe: Recipe,
    first_epoch: int,
    rows: NDArray[np.intp] | None = None,
) -> Batches:
    return Batches(
        inputs,
        target_rows(targets, len(pictures.labels), recipe.head),
        recipe.fit.batch_size,
        rows=rows,
        seed=recipe.seed,
        weights=sample_weights(targets, len(pictures.labels), recipe.loss),
        mixup=recipe.augment.mixup,
        steps=recipe.fit.steps_per_epoch,
        first_epoch=first_epoch,
    )


def _validation_batches(
    inputs: NDArray[Any],
    targets: NDArray[np.int64],
    pictures: Pictures,
    recipe: Recipe,
    rows: NDArray[np.intp] | None = None,
) -> Batches:
    encoded = target_rows(targets, len(pictures.labels), recipe.head)
    return Batches(inputs, encoded, recipe.fit.batch_size, rows=rows)
