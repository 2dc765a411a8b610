"""Fit a network to pictures: one loop for everything, cached features where the backbone is frozen."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from edge_runtime.cli_support import progress_bar
from edge_runtime.datasets.samples import Split
from edge_runtime.errors import EdgeKitError
from train.callbacks import BestEpoch, Epoch, EpochLines, PredictProgress
from train.models import Network, augmented
from train.pictures import Pictures
from train.pipeline import Batches
from train.recipe import FitSettings, Recipe

_PREDICT_BATCH = 32


@dataclass(frozen=True)
class Fitted:
    """What fitting did.

    Attributes:
        history: All epochs.
        best: The one whose weights the network holds now.
        seconds: Wall time of fitting, features included.
        images_per_second: Training pictures (or their features) seen per second of an epoch, validation included;
            without the first epoch, which also compiles, where there are others.
        feature_images_per_second: Pictures per second through a frozen backbone; None where there is none.
    """

    history: tuple[Epoch, ...]
    best: Epoch
    seconds: float
    images_per_second: float
    feature_images_per_second: float | None


def fit(network: Network, pictures: Pictures, recipe: Recipe, log_folder: Path | None = None) -> Fitted:
    """Train, and leave the best epoch's weights in ``network.model``.

    Args:
        network: From `train.models.build`.
        pictures: Its train and validation parts are used.
        recipe: Optimisation, augmentation and seed.
        log_folder: Where TensorBoard logs go, or None for none.

    Raises:
        EdgeKitError: The loss was never a finite number.
    """
    started = time.perf_counter()
    feature_rate = None
    if network.backbone is not None:
        train, validation, feature_rate = _feature_batches(network.backbone, pictures, recipe)
        history, best = _run(network.head, network.head, train, validation, recipe.fit, "head", log_folder)
    else:
        images, targets, size = pictures.images_nhwc_rgb_u8, pictures.targets, recipe.fit.batch_size
        train = Batches(images, targets, size, seed=recipe.seed, rows=pictures.rows(Split.TRAIN))
        validation = Batches(images, targets, size, rows=pictures.rows(Split.VALIDATION))
        wrapped = augmented(network.model, recipe.augment, recipe.seed)
        history, best = _run(wrapped, network.model, train, validation, recipe.fit, "all", log_folder)
    timed = history[1:] or history
    rate = train.item_count * len(timed) / max(sum(epoch.seconds for epoch in timed), 1e-9)
    return Fitted(history, best, time.perf_counter() - started, rate, feature_rate)


def predict(model: Any, inputs: NDArray[Any], label: str) -> NDArray[np.float32]:
    """Run a model over pictures or features, with a progress bar: float32 [n, d]."""
    targets = np.zeros(len(inputs), np.int64)
    with progress_bar(label, len(inputs)) as progress:
        result: NDArray[np.float32] = model.predict(
            Batches(inputs, targets, _PREDICT_BATCH),
            verbose=0,
            callbacks=[PredictProgress(len(inputs), _PREDICT_BATCH, progress)],
        )
    return result


def _feature_batches(backbone: Any, pictures: Pictures, recipe: Recipe) -> tuple[Batches, Batches, float]:
    """Compute features once: of the training pictures, of their mirror images if wanted, and of validation."""
    train_rows, validation_rows = pictures.rows(Split.TRAIN), pictures.rows(Split.VALIDATION)
    images = pictures.images_nhwc_rgb_u8
    parts = [images[train_rows]]
    if recipe.augment.mirror:
        parts.append(images[train_rows][:, :, ::-1])
    parts.append(images[validation_rows])
    started = time.perf_counter()
    features = [predict(backbone, part, "features") for part in parts]
    rate = sum(map(len, parts)) / (time.perf_counter() - started)
    targets = np.concatenate([pictures.targets[train_rows]] * (len(parts) - 1))
    size = recipe.fit.batch_size
    train = Batches(np.concatenate(features[:-1]), targets, size, seed=recipe.seed)
    return train, Batches(features[-1], pictures.targets[validation_rows], size), rate


def _run(
    fitted: Any, kept: Any, train: Batches, validation: Batches, settings: FitSettings, phase: str, logs: Path | None
) -> tuple[tuple[Epoch, ...], Epoch]:
    """Fit ``fitted`` and restore the best weights of ``kept``, which is a part of it."""
    steps = len(train) * settings.epochs
    rising = round(settings.warmup * steps)
    peak = settings.learning_rate
    schedule = keras.optimizers.schedules.CosineDecay(
        0.1 * peak if rising else peak, steps - rising, warmup_target=peak if rising else None, warmup_steps=rising
    )
    fitted.compile(keras.optimizers.Adam(schedule), "sparse_categorical_crossentropy", metrics=["accuracy"])
    keeper = BestEpoch(kept, phase, settings)
    callbacks: list[Any] = [keeper, EpochLines(keeper.history, settings.epochs, sys.stderr.isatty())]
    if logs is not None:
        callbacks.append(keras.callbacks.TensorBoard(str(logs / phase)))
    fitted.fit(train, validation_data=validation, epochs=settings.epochs, verbose=0, shuffle=False, callbacks=callbacks)
    if keeper.best is None:
        raise EdgeKitError("training diverged: the validation loss was never a finite number; lower learning_rate")
    kept.set_weights(keeper.weights)
    return tuple(keeper.history), keeper.best
