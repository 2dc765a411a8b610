"""Epochs of a training, and the state file from which an interrupted training resumes."""

from __future__ import annotations

import contextlib
import csv
import fcntl
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import IntegrityError, ManifestError, OutputError
from edge_runtime.platform.atomic import atomic_file
from edge_runtime.platform.zips import ZIP_ERRORS
from edge_runtime.strict import from_mapping

STATE_FILE = "state.npz"
TENSORBOARD_FOLDER = "tensorboard"
_LOCK_FILE = "lock"
_META = "meta"

Arrays = tuple[NDArray[Any], ...]


@dataclass(frozen=True)
class Epoch:
    """One row of ``history.csv``: epoch from 1, cross-entropy losses in nats, accuracies 0..1.

    ``learning_rate`` is that at the end of the epoch; ``seconds`` includes validation.
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
    """Select the highest validation accuracy, then the lowest loss, then the earliest; None if no loss is finite."""
    finite = [row for row in history if math.isfinite(row.val_loss)]
    return max(finite, key=lambda row: (row.val_accuracy, -row.val_loss), default=None)


def write_history_csv(path: Path, history: Sequence[Epoch]) -> None:
    """Write ``history.csv``, one row per epoch."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Epoch)], lineterminator="\n")
        writer.writeheader()
        writer.writerows({**asdict(row), "seconds": round(row.seconds, 3)} for row in history)


@dataclass(frozen=True)
class Identity:
    """Identity of a training: a resumed one must have the same.

    Attributes:
        recipe_toml: Resolved recipe as TOML.
        data_sha256: Fingerprint of images, labels and splits.
        backend: Keras backend and version.
    """

    recipe_toml: str
    data_sha256: str
    backend: str


@dataclass(frozen=True)
class TrainingState:
    """State of a training between two epochs.

    Attributes:
        identity: Recipe, data and backend.
        before_training: Validation loss and accuracy of the untrained model.
        history: All finished epochs; the phase of the last one is the current phase.
        best_weights: Weights of the whole model after the best epoch, in Keras' order.
        variables: All variables of the fitted model, seeds included.
        optimizer_variables: All variables of the optimiser.
    """

    identity: Identity
    before_training: tuple[float, float]
    history: tuple[Epoch, ...]
    best_weights: Arrays
    variables: Arrays
    optimizer_variables: Arrays

    @classmethod
    def capture(
        cls,
        identity: Identity,
        before_training: tuple[float, float],
        history: Sequence[Epoch],
        best_weights: Sequence[NDArray[Any]],
        fitted: Any,
    ) -> TrainingState:
        """Copy the variables of the fitted Keras model and its optimiser."""
        return cls(
            identity,
            before_training,
            tuple(history),
            tuple(best_weights),
            tuple(np.array(variable) for variable in fitted.variables),
            tuple(np.array(variable) for variable in fitted.optimizer.variables),
        )

    def restore(self, fitted: Any) -> None:
        """Assign all variables to a model that was built and compiled the same way."""
        if not fitted.optimizer.built:
            fitted.optimizer.build(fitted.trainable_variables)
        groups = ((fitted.variables, self.variables), (fitted.optimizer.variables, self.optimizer_variables))
        for variables, values in groups:
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)

    def save(self, folder: Path) -> None:
        """Write the state file atomically.

        Raises:
            OutputError: The disk is full, or the folder cannot be written.
        """
        meta = {
            "identity": asdict(self.identity),
            "before_training": self.before_training,
            "history": [asdict(row) for row in self.history],
        }
        groups = {"best": self.best_weights, "model": self.variables, "optimizer": self.optimizer_variables}
        arrays = {f"{name}{i:06d}": array for name, group in groups.items() for i, array in enumerate(group)}
        arrays[_META] = np.frombuffer(json.dumps(meta).encode(), np.uint8)
        try:
            with atomic_file(folder / STATE_FILE, overwrite=True) as temporary, temporary.open("wb") as file:
                np.savez(file, allow_pickle=False, **arrays)
        except OSError as error:
            raise OutputError(f"{folder}: the training state cannot be written ({error.strerror})") from error


def load_state(folder: Path) -> TrainingState | None:
    """Read the state of an interrupted training, or return None without one.

    Raises:
        IntegrityError: The file is damaged.
    """
    path = folder / STATE_FILE
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            meta = json.loads(file[_META].tobytes())
            loss, accuracy = meta["before_training"]
            return TrainingState(
                from_mapping(Identity, meta["identity"], "identity"),
                (float(loss), float(accuracy)),
                tuple(from_mapping(Epoch, row, "history") for row in meta["history"]),
                *(
                    tuple(file[name] for name in sorted(file.files) if name.startswith(group))
                    for group in ("best", "model", "optimizer")
                ),
            )
    except (*ZIP_ERRORS, ManifestError) as error:
        raise IntegrityError(f"{path}: is damaged; start again with --overwrite") from error


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make a folder and lock it against other trainings.

    Raises:
        OutputError: Another training holds the lock, or the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / _LOCK_FILE).open("w")
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror})") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutputError(f"{folder}: another training is running there; wait, or choose another --out") from error
        yield
