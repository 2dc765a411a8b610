"""One training from pictures to run directory: everything between the command line and the files."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from edge_runtime.atomic import check_free
from edge_runtime.cli_support import Progress, note, progress_bar
from edge_runtime.contract import MANIFEST_FILE
from edge_runtime.datasets.builtin import SMILEYS_COUNT
from edge_runtime.datasets.resolve import resolve
from edge_runtime.datasets.samples import Dataset, Split
from edge_runtime.errors import OutputError
from train.backend import load_keras
from train.metrics import Scores
from train.pictures import Pictures, load_pictures
from train.recipe import WEIGHTS_IMAGENET, WEIGHTS_NONE, Recipe
from train.split import LeftOut
from train.weights import infer_alpha

_LEFT_OUT_SHOWN = 5


@dataclass(frozen=True)
class Outcome:
    """What the command line tells at the end; the rates are pictures per second, ``seconds`` is wall time."""

    test: Scores
    validation: Scores
    images_per_second: float
    feature_images_per_second: float | None
    seconds: float


def train(source: str, recipe: Recipe, out: Path, model_name: str, *, overwrite: bool) -> Outcome:
    """Train by a recipe and write the run directory.

    Args:
        source: A folder of class folders, or the name of a built-in set.
        recipe: What to do.
        out: The run directory.
        model_name: For the manifest; letters, digits, ``.``, ``_`` and ``-``.
        overwrite: Whether an existing run directory is replaced.

    Raises:
        EdgeKitError: See `edge_runtime.errors`; nothing is left behind then.
    """
    started = time.perf_counter()
    check_free(out, overwrite=overwrite, marker=MANIFEST_FILE)
    _make_parent(out)
    recipe = with_alpha_of_file(recipe)
    pictures = _read(source, recipe)
    backend = load_keras(recipe.seed)

    # Keras and what builds on it load only now, when the cheap mistakes have been found.
    from train.evaluation import evaluate
    from train.finished import Run
    from train.fitting import fit
    from train.models import build
    from train.rundir import write_run

    network = build(recipe, len(pictures.labels))
    with tempfile.TemporaryDirectory() as logs:
        can_log = backend.startswith("tensorflow") and find_spec("tensorboard") is not None
        fitted = fit(network, pictures, recipe, Path(logs) if can_log else None)
        evaluation = evaluate(network.model, pictures)
        seconds = time.perf_counter() - started
        run = Run(model_name, recipe, backend, pictures, fitted, evaluation, seconds)
        write_run(out, run, network.model, Path(logs), overwrite=overwrite)
    scores = evaluation.scores
    return Outcome(
        scores[Split.TEST],
        scores[Split.VALIDATION],
        fitted.images_per_second,
        fitted.feature_images_per_second,
        time.perf_counter() - started,
    )


def with_alpha_of_file(recipe: Recipe) -> Recipe:
    """Where the recipe names a weight file, take the width multiplier from the file.

    Raises:
        UsageError: No such file.
        IntegrityError: Not a MobileNetV2 weight file.
    """
    if recipe.mobilenetv2 is None or recipe.weights in (WEIGHTS_NONE, WEIGHTS_IMAGENET):
        return recipe
    alpha = infer_alpha(Path(recipe.weights))
    return replace(recipe, mobilenetv2=replace(recipe.mobilenetv2, alpha=alpha))


def _read(source: str, recipe: Recipe) -> Pictures:
    dataset = _resolve(source)
    with progress_bar("reading pictures", len(dataset.samples)) as progress:
        pictures = load_pictures(dataset, recipe.input.spec(), recipe.split, recipe.seed, progress)
    counts = ", ".join(f"{len(pictures.rows(split))} {split.value}" for split in Split)
    note(f"{pictures.name}: {len(pictures.samples)} pictures in {len(pictures.labels)} classes ({counts})")
    _note_left_out(pictures.left_out)
    return pictures


def _resolve(source: str) -> Dataset:
    with contextlib.ExitStack() as stack:
        bar: list[Progress] = []

        def drawn(count: int) -> None:
            # Only a built-in set that is not in the cache yet is drawn, so the bar appears with the first picture.
            if not bar:
                bar.append(stack.enter_context(progress_bar("drawing pictures", SMILEYS_COUNT)))
            bar[0](count)

        return resolve(source, drawn)


def _note_left_out(left_out: Sequence[LeftOut]) -> None:
    if not left_out:
        return
    note(f"{len(left_out)} files left out (all are in left_out.csv):")
    for item in left_out[:_LEFT_OUT_SHOWN]:
        note(f"  {item.sample.path}: {item.reason}")


def _make_parent(out: Path) -> None:
    """Find out before the long work whether the run directory can be written."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.partial-", dir=out.parent):
            pass
    except OSError as error:
        raise OutputError(f"{out}: cannot be written ({error.strerror})") from error
