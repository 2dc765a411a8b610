"""The epochs of a training, and which of them is the best."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path


@dataclass(frozen=True)
class Epoch:
    """One row of ``history.csv``; losses are cross-entropies in nats, accuracies shares 0..1, epochs count from 1.

    ``learning_rate`` is the one at the end of the epoch; ``seconds`` includes validation.
    """

    phase: str
    epoch: int
    loss: float
    accuracy: float
    val_loss: float
    val_accuracy: float
    learning_rate: float
    seconds: float


def best_epoch(history: Sequence[Epoch]) -> Epoch | None:
    """The highest validation accuracy, then the lowest loss, then the earliest; None where no loss is finite."""
    finite = [row for row in history if math.isfinite(row.val_loss)]
    return max(finite, key=lambda row: (row.val_accuracy, -row.val_loss), default=None)


def write_history_csv(path: Path, history: Sequence[Epoch]) -> None:
    """Write one line per epoch."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Epoch)], lineterminator="\n")
        writer.writeheader()
        writer.writerows({**asdict(row), "seconds": round(row.seconds, 3)} for row in history)
