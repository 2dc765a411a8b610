"""Run one training, from images to run directory."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from edge_runtime.cli_support import note
from edge_runtime.contract import MANIFEST_FILE
from edge_runtime.errors import OutputError, UsageError
from edge_runtime.platform.atomic import check_free
from edge_runtime.workstation.datasets.samples import fingerprint
from train.fitting.training_state import STATE_FILE, TENSORBOARD_FOLDER, Identity, TrainingState, load_state, locked
from train.hardware import FLOAT32, HardwareRequest, check_request, start
from train.intake.images import read_images
from train.network.weights import with_checked_weights
from train.recipe import Recipe, to_toml
from train.rundir import Format

if TYPE_CHECKING:
    from train.evaluation.evaluate import TrainingResult


@dataclass(frozen=True)
class Request:
    """Options of ``edge-train run``.

    Attributes:
        source: Data set, as `edge_runtime.workstation.datasets.resolve` takes it.
        sha256: Expected SHA-256 of a zip; None accepts any.
        recipe: Settings of the training.
        out: Path of the run directory.
        model_name: Name in the manifest: letters, digits, ``.``, ``_`` and ``-``.
        also: Formats of the saved model besides ``.keras``.
        hardware: Requested devices and precision.
        overwrite: True to replace an existing run directory or interrupted training.
        resume: True to continue an interrupted training.
    """

    source: str
    sha256: str | None
    recipe: Recipe
    out: Path
    model_name: str
    also: tuple[Format, ...]
    hardware: HardwareRequest
    overwrite: bool
    resume: bool


def train(request: Request) -> TrainingResult:
    """Train by a recipe and write the run directory.

    Meanwhile ``OUT.training`` holds TensorBoard's logs and the state from which ``--resume`` continues. Of several
    processes only the chief writes.

    Raises:
        EdgeKitError: See `edge_runtime.errors`.
    """
    started = time.perf_counter()
    check_request(request.hardware)
    check_free(request.out, overwrite=request.overwrite, marker=MANIFEST_FILE)
    recipe = with_checked_weights(request.recipe)
    with _work_folder(request) as work_folder:
        state = load_state(work_folder) if request.resume else None
        data = read_images(request.source, request.sha256, recipe)
        backend, hardware = start(request.hardware, recipe.seed)
        note(f"training on {hardware.describe()}")
        hardware.check_batch_size(recipe.fit.batch_size)
        precision = "" if hardware.dtype_policy == FLOAT32 else f", {hardware.dtype_policy}"
        identity = Identity(to_toml(recipe), fingerprint(data.samples), backend + precision)
        _check_same(state, identity, work_folder)

        # Keras and its dependents are imported only after the cheap checks.
        from train.distribution import check_same_everywhere, scope
        from train.evaluation.evaluate import TrainingResult, evaluate
        from train.fitting.fit import fit
        from train.network.models import build, plain_model
        from train.rundir import write_run

        log = backend.startswith("tensorflow") and find_spec("tensorboard") is not None
        with scope(hardware):
            check_same_everywhere(f"{identity} {state and len(state.history)}", "another recipe, data or saved state")
            network = build(recipe, len(data.labels))
            fitted = fit(network, data, recipe, identity, work_folder, state=state, log=log)
        is_plain = hardware.dtype_policy == FLOAT32 and len(hardware.devices) == 1
        model = network.model if is_plain else plain_model(network.model)
        features = fitted.features if is_plain else None
        evaluation = evaluate(model, data, recipe, head=network.head, features=features)
        seconds = time.perf_counter() - started
        run = TrainingResult(request.model_name, recipe, backend, hardware, data, fitted, evaluation, seconds)
        if request.hardware.is_chief:
            write_run(request.out, run, model, work_folder, request.also, overwrite=request.overwrite)
            shutil.rmtree(work_folder, ignore_errors=True)
    return run


@contextlib.contextmanager
def _work_folder(request: Request) -> Iterator[Path]:
    """Make and lock the folder of the running training; remove it at the end unless it holds a state to resume."""
    folder = request.out.with_name(request.out.name + ".training")
    if (folder / STATE_FILE).exists() and not request.overwrite and not request.resume:
        raise OutputError(
            f"{folder}: holds an interrupted training; continue it with --resume or start again with --overwrite"
        )
    if not request.hardware.is_chief:
        yield folder
        return
    with locked(folder):
        if request.overwrite and not request.resume:
            shutil.rmtree(folder / TENSORBOARD_FOLDER, ignore_errors=True)
            (folder / STATE_FILE).unlink(missing_ok=True)
        elif request.resume and not (folder / STATE_FILE).exists():
            note(f"{folder}: nothing to resume, starting from the beginning")
        try:
            yield folder
        except KeyboardInterrupt:
            if (folder / STATE_FILE).exists():
                note("\ninterrupted; continue with the same command and --resume")
            raise
        finally:
            if not (folder / STATE_FILE).exists():
                shutil.rmtree(folder, ignore_errors=True)


def _check_same(state: TrainingState | None, identity: Identity, folder: Path) -> None:
    """Check that a resumed training has the recipe, images and backend it was interrupted with.

    Raises:
        UsageError: One of them differs.
    """
    if state is None:
        return
    before = state.identity
    if before.recipe_toml != identity.recipe_toml:
        old, new = before.recipe_toml.splitlines(), identity.recipe_toml.splitlines()
        changed = next((line for line in old if line not in new), "another recipe")
        reason = f"with another recipe ({changed})"
    elif before.data_sha256 != identity.data_sha256:
        reason = "on other images"
    elif before.backend != identity.backend:
        reason = f"under {before.backend} rather than {identity.backend}"
    else:
        return
    raise UsageError(
        f"{folder}: the interrupted training ran {reason}; use the same settings, or start again with "
        "--overwrite and without --resume"
    )
