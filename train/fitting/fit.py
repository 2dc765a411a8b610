"""Fit a network in one or two phases, and keep the best epoch of both."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from edge_runtime.cli_support import note
from edge_runtime.errors import EdgeKitError
from train.distribution import current_shard
from train.fitting.callbacks import EpochLines, Recorder, StateSaver
from train.fitting.phases import HEAD, Phase, Task, compile_model, phases_of, prepare_task
from train.fitting.training_state import TENSORBOARD_FOLDER, Epoch, Identity, TrainingState
from train.intake.images import TrainingData
from train.network.models import Network
from train.recipe import Recipe


@dataclass(frozen=True)
class PhaseSpeed:
    """Speed of a phase, in the process that ended the training.

    Attributes:
        images_per_second: Training images (or their features) per second of epoch time, validation included; without
            the first epoch, which includes compilation, if there are others.
        feed_share: Time of batch preparation as a share of epoch time, 0..1. Batches are prepared while a step
            computes, so this is an upper bound of the time that steps waited for data.
    """

    images_per_second: float
    feed_share: float


@dataclass(frozen=True)
class Fitted:
    """Result of fitting.

    Attributes:
        history: All epochs of all phases.
        best: Best epoch, whose weights the network now holds.
        before_training: Validation loss and accuracy of the untrained network.
        speeds: Speed by phase, without phases that ended before a resume.
        features: float32 [images, d], features of every image from the kept backbone; None if unknown.
        feature_images_per_second: Images per second through a frozen backbone; None without one.
        seconds: Wall time since the last resume in seconds, features included.
    """

    history: tuple[Epoch, ...]
    best: Epoch
    before_training: tuple[float, float]
    speeds: dict[str, PhaseSpeed]
    features: NDArray[np.float32] | None
    feature_images_per_second: float | None
    seconds: float


def fit(
    network: Network,
    data: TrainingData,
    recipe: Recipe,
    identity: Identity,
    work_folder: Path,
    *,
    state: TrainingState | None = None,
    log: bool = False,
) -> Fitted:
    """Train a network, and leave the weights of the best epoch in ``network.model``.

    Args:
        network: Network from `train.network.models.build`.
        data: Images, of which the train and validation splits are used.
        recipe: Optimisation, augmentation and seed.
        identity: Identity of the training, saved with the state.
        work_folder: Folder of the state and of TensorBoard's logs.
        state: State of an interrupted training to continue, or None.
        log: True to write TensorBoard's logs.

    Raises:
        EdgeKitError: The loss was never finite.
        OutputError: The state cannot be saved.
    """
    started = time.perf_counter()
    recorder = Recorder(network.model, recipe.fit.patience)
    # Only the chief process writes.
    savers = [StateSaver(recorder, identity, work_folder)] if current_shard().index == 0 else []
    phases = phases_of(recipe)
    epochs = sum(phase.epochs for phase in phases)
    if state is not None:
        recorder.resume(state)
        note(f"resuming after epoch {len(state.history)} of {epochs}")
    speeds: dict[str, PhaseSpeed] = {}
    features, feature_rate = None, None
    for phase in phases:
        done = recorder.begin_phase(phase.name)
        if done >= phase.epochs or recorder.is_out_of_patience():
            continue
        # Each phase starts from the best epoch so far, so that it cannot lose accuracy.
        recorder.restore_best()
        task = prepare_task(phase, network, data, recipe, done)
        if task.features is not None:
            features, feature_rate = task.features, task.feature_images_per_second
        compile_model(task.fitted, recipe, phase.optimizer, len(task.train) * phase.epochs)
        if state is not None and done:
            state.restore(task.fitted)
        if recorder.before_training is None:
            loss, accuracy = task.fitted.evaluate(task.validation, verbose=0)[:2]
            recorder.before_training = (float(loss), float(accuracy))
        lines = EpochLines(recorder.history, epochs, sys.stderr.isatty())
        logs = [keras.callbacks.TensorBoard(str(work_folder / TENSORBOARD_FOLDER / phase.name))] if log else []
        speeds[phase.name] = _run(phase, task, done, [recorder, *savers, lines, *logs])
        for saver in savers:
            saver.save(task.fitted)
    if recorder.best is None or recorder.before_training is None:
        raise EdgeKitError("training diverged: the validation loss was never finite; lower optimizer.learning_rate")
    recorder.restore_best()
    history = tuple(recorder.history)
    seconds = time.perf_counter() - started
    if recorder.best.phase != HEAD:
        features = None  # fine-tuning changed the backbone
    return Fitted(history, recorder.best, recorder.before_training, speeds, features, feature_rate, seconds)


def _run(phase: Phase, task: Task, done: int, callbacks: Sequence[Any]) -> PhaseSpeed:
    """Fit a phase from epoch ``done`` on, and measure its speed."""
    recorder: Recorder = callbacks[0]
    first = len(recorder.history)
    fed, started = task.train.seconds + task.validation.seconds, time.perf_counter()
    task.fitted.fit(
        task.train,
        validation_data=task.validation,
        initial_epoch=done,
        epochs=phase.epochs,
        verbose=0,
        shuffle=False,
        callbacks=list(callbacks),
    )
    seconds = time.perf_counter() - started
    fed = task.train.seconds + task.validation.seconds - fed
    timed = recorder.history[first + 1 :] or recorder.history[first:]
    rate = task.train.item_count * len(timed) / max(sum(epoch.seconds for epoch in timed), 1e-9)
    return PhaseSpeed(rate, fed / seconds)
