"""Body of ``edge-train run``: the recipe that options make, and what is said at the end."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_runtime.datasets.samples import Split
from edge_runtime.errors import UsageError
from train.recipe import Recipe
from train.recipe_files import load_recipe, override, parse_settings
from train.settings import WEIGHTS_NONE

if TYPE_CHECKING:
    from train.finished import Run


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


def print_summary(run: Run, out: Path) -> None:
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
        "test accuracy": f"{test.accuracy:.1%} of {test.images} pictures "
        f"(95 % interval {test.accuracy_low:.1%} to {test.accuracy_high:.1%})",
        "validation accuracy": f"{validation.accuracy:.1%} of {validation.images} pictures (epoch {best.epoch}{phase})",
        "time": f"{run.seconds:.0f} s; pictures per second: {', '.join(rates) or 'resumed'}; "
        f"making batches took {feeding:.1%} of the epochs",
        "run directory": str(out),
        "report": str(out / "report.html"),
        "next": f"edge-convert run {out}",
    }
    for name, text in lines.items():
        click.echo(f"{name:<19} {text}")
