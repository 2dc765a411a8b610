"""Body of ``edge-train run``: one training, from images to run directory, and its summary."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_runtime.cli_support import note, say
from edge_runtime.contract import MANIFEST_FILE
from edge_runtime.errors import OutputError, UsageError
from edge_runtime.platform.atomic import check_free
from edge_runtime.workstation.datasets.samples import Split, fingerprint
from train.fitting.training_state import STATE_FILE, TENSORBOARD_FOLDER, Identity, TrainingState, load_state, locked
from train.hardware import FLOAT32, HardwareRequest, check_request, start
from train.intake.images import read_images
from train.network.weights import with_checked_weights
from train.recipe import WEIGHTS_NONE, Recipe, load_recipe, override, parse_settings, to_toml
from train.saving import Format

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


def resolve_recipe(name: str, options: Mapping[str, Any], settings: Sequence[str]) -> Recipe:
    """Load a recipe and change it by ``--set`` and by other options, which take precedence.

    Args:
        name: Name of a built-in recipe, or path of a recipe file.
        options: Values of options by recipe field; None for an option that is absent.
        settings: Values of ``--set``, each ``TABLE.FIELD=VALUE``.

    Raises:
        UsageError: Unknown recipe or field, or a value out of range.
    """
    recipe = load_recipe(name)
    changes = {**parse_settings(settings), **{key: value for key, value in options.items() if value is not None}}
    weights = changes.get("backbone.weights")
    if recipe.backbone is None and weights is not None:
        if weights != WEIGHTS_NONE:
            raise UsageError(f"recipe {recipe.name} trains from scratch: --weights {weights} does not apply to it")
        del changes["backbone.weights"]
    elif weights == WEIGHTS_NONE and recipe.finetune is not None:
        # Without weights nothing is frozen: the first phase trains the whole network.
        changes.setdefault("finetune.epochs", 0)
    return override(recipe, changes)


@contextlib.contextmanager
def silent_unless(is_chief: bool) -> Iterator[None]:
    """Discard the output of all processes but the chief; errors still leave the block in each."""
    if is_chief:
        yield
        return
    with (
        Path(os.devnull).open("w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        yield


def print_summary(run: TrainingResult, out: Path) -> None:
    """Print accuracy, speed and files of a training."""
    scores, best = run.evaluation.scores, run.fitted.best
    test, validation = scores[Split.TEST], scores[Split.VALIDATION]
    speeds = {f"{name} phase" if name != "all" else "fit": speed for name, speed in run.fitted.speeds.items()}
    rates = [f"{name} {speed.images_per_second:,.0f}" for name, speed in speeds.items()]
    if run.fitted.feature_images_per_second:
        rates.insert(0, f"backbone {run.fitted.feature_images_per_second:,.0f}")
    feeding = max((speed.feed_share for speed in speeds.values()), default=0.0)
    phase = "" if best.phase == "all" else f", {best.phase} phase"
    lines = {
        "test accuracy": f"{test.accuracy:.1%} of {test.images} images "
        f"(95 % interval {test.accuracy_low:.1%} to {test.accuracy_high:.1%})",
        "validation accuracy": f"{validation.accuracy:.1%} of {validation.images} images (epoch {best.epoch}{phase})",
        "time": f"{run.seconds:.0f} s; images per second: {', '.join(rates) or 'resumed'}; "
        f"batch preparation took {feeding:.1%} of the epoch time",
        "run directory": str(out),
        "report": str(out / "report.html"),
        "next": f"edge-convert run {out}",
    }
    for name, text in lines.items():
        say(f"{name:<19} {text}")
