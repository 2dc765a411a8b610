"""What happens while Keras fits: the best epoch is kept, and a person sees how it goes."""
# ruff: noqa: ARG002 - Keras passes every argument by position, used or not

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
from numpy.typing import NDArray

from edge_runtime.cli_support import Progress, note
from train.recipe import FitSettings

_SECONDS_BETWEEN_LINES = 2.0


@dataclass(frozen=True)
class Epoch:
    """One row of ``history.csv``; losses are cross-entropies in nats, accuracies shares 0..1."""

    phase: str
    epoch: int
    loss: float
    accuracy: float
    val_loss: float
    val_accuracy: float
    seconds: float


class BestEpoch(keras.callbacks.Callback):
    """Record every epoch and keep a copy of the best one's weights; stop when patience ends."""

    def __init__(self, kept: Any, phase: str, settings: FitSettings) -> None:
        super().__init__()
        self.history: list[Epoch] = []
        self.best: Epoch | None = None
        self.weights: list[NDArray[Any]] = []
        self._kept, self._phase, self._patience = kept, phase, settings.patience
        self._started = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Start the clock."""
        self._started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Record the epoch; copy the weights if it is the best one so far."""
        figures = {name: float((logs or {})[name]) for name in ("loss", "accuracy", "val_loss", "val_accuracy")}
        row = Epoch(self._phase, epoch + 1, **figures, seconds=time.perf_counter() - self._started)
        self.history.append(row)
        if math.isfinite(row.val_loss) and (self.best is None or _rank(row) > _rank(self.best)):
            self.best, self.weights = row, self._kept.get_weights()
        last_better = self.best.epoch if self.best else 0
        if self._patience and row.epoch - last_better >= self._patience:
            self.model.stop_training = True


def _rank(row: Epoch) -> tuple[float, float]:
    return row.val_accuracy, -row.val_loss


class EpochLines(keras.callbacks.Callback):
    """One line per epoch on standard error, fewer where epochs are quick; on a terminal the running one counts up."""

    def __init__(self, history: Sequence[Epoch], epochs: int, is_terminal: bool) -> None:
        super().__init__()
        self._history, self._epochs, self._is_terminal = history, epochs, is_terminal
        self._epoch, self._line_at, self._status_at = 1, -math.inf, 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Note which epoch runs."""
        self._epoch = epoch + 1

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Show on a terminal how far the epoch is."""
        now = time.perf_counter()
        if self._is_terminal and now - self._status_at > 0.2:
            self._status_at = now
            share = 100 * (batch + 1) // self.params["steps"]
            sys.stderr.write(f"\r\x1b[Kepoch {self._epoch}/{self._epochs}  {share} %")
            sys.stderr.flush()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Print the epoch."""
        now = time.perf_counter()
        is_last = self._epoch == self._epochs or self.model.stop_training
        if now - self._line_at < _SECONDS_BETWEEN_LINES and not is_last:
            return
        self._line_at = now
        row = self._history[-1]
        if self._is_terminal:
            sys.stderr.write("\r\x1b[K")
        note(
            f"epoch {row.epoch}/{self._epochs}  loss {row.loss:.4f}  accuracy {row.accuracy:.3f}  "
            f"validation loss {row.val_loss:.4f}  accuracy {row.val_accuracy:.3f}  {row.seconds:.1f} s"
        )


class PredictProgress(keras.callbacks.Callback):
    """Move a progress bar while a model predicts."""

    def __init__(self, total: int, batch_size: int, progress: Progress) -> None:
        super().__init__()
        self._left, self._batch_size, self._progress = total, batch_size, progress

    def on_predict_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Move the bar by one batch."""
        step = min(self._batch_size, self._left)
        self._left -= step
        self._progress(step)
