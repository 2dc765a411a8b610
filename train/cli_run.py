"""Bodies of ``edge-train run`` and ``edge-train predict``: recipe from options, summary, predictions."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from edge_runtime.contract import Manifest
from edge_runtime.decision import top1, widen
from edge_runtime.errors import ImageError, IntegrityError, ModelError, UsageError
from edge_runtime.model.bundle import read_bundle_manifest
from edge_runtime.preprocess import load_prepared
from edge_runtime.results import Failed
from edge_runtime.sources.images import find_images
from edge_runtime.text import escape
from edge_runtime.workstation.datasets.samples import Split
from train.backend import load_keras
from train.recipe import Recipe, load_recipe, override, parse_settings
from train.saving import MODEL_FILE
from train.settings import WEIGHTS_NONE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from train.evaluation.evaluate import TrainingResult


def resolve_recipe(name: str, options: Mapping[str, Any], settings: Sequence[str]) -> Recipe:
    """Load a recipe and apply ``--set`` and the options of their own, which win.

    Args:
        name: Of a built-in recipe, or a path.
        options: Field to value; None where the option was not given.
        settings: Values of ``--set``.

    Raises:
        UsageError: No such recipe or field, or a value that does not fit.
    """
    recipe = load_recipe(name)
    changes = {**parse_settings(settings), **{key: value for key, value in options.items() if value is not None}}
    weights = changes.get("backbone.weights")
    if recipe.backbone is None and weights is not None:
        if weights != WEIGHTS_NONE:
            raise UsageError(f"recipe {recipe.name} trains from scratch: --weights {weights} does not go with it")
        del changes["backbone.weights"]
    elif weights == WEIGHTS_NONE and recipe.finetune is not None:
        # Nothing is frozen then: the first phase trains the whole network.
        changes.setdefault("finetune.epochs", 0)
    return override(recipe, changes)


@contextlib.contextmanager
def silent_unless(is_chief: bool) -> Iterator[None]:
    """Let one process speak for all; errors leave the block and are said by each."""
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
    """Say how good the model is and where everything lies."""
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
        f"making batches took {feeding:.1%} of the epochs",
        "run directory": str(out),
        "report": str(out / "report.html"),
        "next": f"edge-convert run {out}",
    }
    for name, text in lines.items():
        click.echo(f"{name:<19} {text}")


_BATCH_SIZE = 32


def predict_images(run: Path, paths: Sequence[Path]) -> int:
    """Print source, label and score of each image, separated by tabs; gives 1 where some cannot be read, else 0.

    Raises:
        ModelError: Not a run directory.
    """
    if not (run / MODEL_FILE).is_file():
        raise ModelError(f"{run}: expected a run directory with {MODEL_FILE}; make one with edge-train run")
    manifest = read_bundle_manifest(run)
    load_keras(0)
    model = _load_model(run / MODEL_FILE)
    failures = 0
    for sources, images, problems in _batches(paths, manifest):
        for problem in problems:
            failures += 1
            click.echo(f"{escape(problem.source)}\terror: {problem.message}")
        if sources:
            _print_prediction(model, manifest, sources, np.stack(images))
    return int(failures > 0)


def _load_model(path: Path) -> Any:
    import keras

    try:
        # Safe mode: code in the file is never run.
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise IntegrityError(f"{path}: Keras cannot load it ({reason})") from error


def _print_prediction(
    model: Any, manifest: Manifest, sources: Sequence[str], images_nhwc_rgb_u8: NDArray[np.uint8]
) -> None:
    outputs = np.asarray(model.predict(images_nhwc_rgb_u8, batch_size=_BATCH_SIZE, verbose=0), np.float32)
    probabilities = widen(outputs, manifest.output)
    answers = top1(probabilities, manifest.output)
    for source, answer, row in zip(sources, answers, probabilities, strict=True):
        click.echo(f"{escape(source)}\t{escape(manifest.labels[answer])}\t{row[answer]:.4f}")


def _batches(
    paths: Sequence[Path], manifest: Manifest
) -> Iterator[tuple[list[str], list[NDArray[np.uint8]], list[Failed]]]:
    """Sources and prepared images, up to 32 at a time, and what could not be read among them."""
    sources: list[str] = []
    images: list[NDArray[np.uint8]] = []
    problems: list[Failed] = []
    for item in find_images(paths):
        if isinstance(item, Failed):
            problems.append(item)
            continue
        try:
            images.append(load_prepared(item, manifest.input))
            sources.append(str(item))
        except ImageError as error:
            problems.append(Failed.of(str(item), error))
        if len(images) == _BATCH_SIZE:
            yield sources, images, problems
            sources, images, problems = [], [], []
    yield sources, images, problems
