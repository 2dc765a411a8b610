"""Keras callbacks: keep the best epoch, save the state, print progress."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
from numpy.typing import NDArray

from edge_runtime.cli_support import note
from edge_runtime.progress import Progress
from train.fitting.training_state import Epoch, Identity, TrainingState, best_epoch

# ruff: noqa: ARG002 - Keras passes every argument by position, used or not

_SECONDS_BETWEEN_LINES = 2.0
_SECONDS_BETWEEN_SAVES = 10.0


class Recorder(keras.callbacks.Callback):
    """Record all epochs, copy the weights of the best one, and stop a phase that no longer improves.

    Args:
        kept: Whole model, whose best weights are kept whichever part a phase trains.
        patience: Epochs without improvement after which a phase stops; 0 disables early stopping.

    Attributes:
        history: All finished epochs of all phases.
        weights: Weights of the whole model after the best epoch.
        before_training: Validation loss and accuracy of the untrained model, or None before they are measured.
    """

    def __init__(self, kept: Any, patience: int) -> None:
        super().__init__()
        self.history: list[Epoch] = []
        self.weights: list[NDArray[Any]] = []
        self.before_training: tuple[float, float] | None = None
        self._kept, self._patience = kept, patience
        self._phase, self._started = "", 0.0

    @property
    def best(self) -> Epoch | None:
        """Best epoch of all phases."""
        return best_epoch(self.history)

    def resume(self, state: TrainingState) -> None:
        """Restore the epochs and weights of an interrupted training."""
        self.history, self.weights = list(state.history), list(state.best_weights)
        self.before_training = state.before_training

    def begin_phase(self, name: str) -> int:
        """Start a phase, and return the number of its epochs that are already finished."""
        self._phase = name
        return len(self._rows())

    def restore_best(self) -> None:
        """Set the weights of the whole model to those of the best epoch, if there is one."""
        if self.weights:
            self._kept.set_weights(self.weights)

    def is_out_of_patience(self) -> bool:
        """Tell whether the current phase should stop."""
        rows = self._rows()
        best = best_epoch(rows)
        waited = len(rows) - 1 - rows.index(best) if best else len(rows)
        return 0 < self._patience <= waited

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Start the clock."""
        self._started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Record the epoch; copy the weights if it is the best one so far."""
        figures = {name: float((logs or {})[name]) for name in ("loss", "accuracy", "val_loss", "val_accuracy")}
        seconds = time.perf_counter() - self._started
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        row = Epoch(self._phase, len(self.history) + 1, **figures, learning_rate=rate, seconds=seconds)
        self.history.append(row)
        if self.best is row:
            self.weights = self._kept.get_weights()
        if self.is_out_of_patience():
            self.model.stop_training = True

    def _rows(self) -> list[Epoch]:
        return [row for row in self.history if row.phase == self._phase]


class StateSaver(keras.callbacks.Callback):
    """Save the state after the first epoch, then at most every 10 seconds."""

    def __init__(self, recorder: Recorder, identity: Identity, folder: Path) -> None:
        super().__init__()
        self._recorder, self._identity, self._folder = recorder, identity, folder
        self._saved_at = -math.inf

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Save the state if the last save is over 10 seconds old."""
        if time.perf_counter() - self._saved_at > _SECONDS_BETWEEN_SAVES:
            self.save(self.model)

    def save(self, fitted: Any) -> None:
        """Save the state of the fitted model and of the recorder."""
        recorder = self._recorder
        if recorder.weights:
            before = recorder.before_training or (math.nan, math.nan)
            state = TrainingState.capture(self._identity, before, recorder.history, recorder.weights, fitted)
            state.save(self._folder)
            self._saved_at = time.perf_counter()


class EpochLines(keras.callbacks.Callback):
    """Print epochs to standard error, at most one line every 2 seconds; on a terminal also their progress."""

    def __init__(self, history: Sequence[Epoch], epochs: int, is_terminal: bool) -> None:
        super().__init__()
        self._history, self._epochs, self._is_terminal = history, epochs, is_terminal
        self._line_at, self._status_at = -math.inf, 0.0

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Update the progress of the epoch on a terminal."""
        now = time.perf_counter()
        if self._is_terminal and now - self._status_at > 0.2:
            self._status_at = now
            share = 100 * (batch + 1) // self.params["steps"]
            sys.stderr.write(f"\r\x1b[Kepoch {len(self._history) + 1}/{self._epochs}  {share} %")
            sys.stderr.flush()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Print a line for the epoch, unless the last one is less than 2 seconds old."""
        now = time.perf_counter()
        is_last = epoch + 1 == self.params["epochs"] or self.model.stop_training
        if now - self._line_at < _SECONDS_BETWEEN_LINES and not is_last:
            return
        self._line_at = now
        row = self._history[-1]
        if self._is_terminal:
            sys.stderr.write("\r\x1b[K")
        name = "" if row.phase == "all" else f"{row.phase} "
        note(
            f"{name}epoch {row.epoch}/{self._epochs}  loss {row.loss:.4f}  accuracy {row.accuracy:.3f}  "
            f"validation loss {row.val_loss:.4f}  accuracy {row.val_accuracy:.3f}  {row.seconds:.1f} s"
        )


class PredictProgress(keras.callbacks.Callback):
    """Advance a progress bar while a model predicts."""

    def __init__(self, total: int, batch_size: int, progress: Progress) -> None:
        super().__init__()
        self._left, self._batch_size, self._progress = total, batch_size, progress

    def on_predict_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Advance the bar by one batch."""
        step = min(self._batch_size, self._left)
        self._left -= step
        self._progress(step)
