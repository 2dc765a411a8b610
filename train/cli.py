"""``edge-train``: photos to run directory."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NoReturn

import click

from edge_runtime.cli_support import require_extra, run_cli
from edge_runtime.errors import UsageError

_DEFAULT_RECIPE = "cnn-small"
_DEFAULT_DATA = "smileys"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Train an image classifier for a small device."""


@cli.command()
def recipes() -> None:
    """List the built-in recipes, one line each."""
    from train.recipe_files import load_recipe, recipe_names

    names = recipe_names()
    for name in names:
        click.echo(f"{name:<{max(map(len, names))}}  {load_recipe(name).summary}")


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--count", type=click.IntRange(1), default=12, show_default=True, metavar="N")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Another seed, other pictures.")
def draw(folder: Path, count: int, seed: int) -> None:
    """Draw pictures like those of smileys, which no model has seen, into FOLDER: to classify, print or hold up."""
    from edge_runtime.datasets.builtin import draw_pictures

    draw_pictures(folder, count, seed)
    click.echo(f"{count} pictures in {folder}")


@cli.command()
@click.option(
    "--data",
    default=_DEFAULT_DATA,
    show_default=True,
    metavar="SRC",
    help="A folder with one folder of pictures per class (also inside train/, validation/, test/), or smileys.",
)
@click.option("--recipe", default=_DEFAULT_RECIPE, show_default=True, metavar="NAME|FILE.toml", help="What to train.")
@click.option("--out", type=click.Path(path_type=Path), metavar="RUN", help="[default: runs/DATA-RECIPE]")
@click.option("--epochs", type=click.IntRange(1), help="Passes over the training pictures.")
@click.option("--image-size", type=click.IntRange(1), metavar="S", help="Side of the model's input, in pixels.")
@click.option("--batch-size", type=click.IntRange(1), metavar="B", help="Pictures per step.")
@click.option(
    "--weights", metavar="imagenet|none|FILE.h5", help="What a MobileNetV2 starts from; FILE.h5 holds one without top."
)
@click.option("--seed", type=click.IntRange(0), help="Of split, initialisation, shuffling and augmentation.")
@click.option("--name", metavar="MODEL_NAME", help="Of the model and its exported files.  [default: DATA-RECIPE]")
@click.option("--overwrite", is_flag=True, help="Replace an existing run directory.")
def run(
    data: str,
    recipe: str,
    out: Path | None,
    epochs: int | None,
    image_size: int | None,
    batch_size: int | None,
    weights: str | None,
    seed: int | None,
    name: str | None,
    overwrite: bool,
) -> None:
    """Train a recipe on pictures and write a run directory.

    Without options: the recipe cnn-small on the built-in drawings `smileys`, into runs/smileys-cnn-small.
    """
    from train.backend import backend_package

    require_extra("edge-train run", "train", "keras", backend_package(), "h5py", "matplotlib", "jinja2", "tomli_w")
    from train.recipe import Overrides, override
    from train.recipe_files import load_recipe
    from train.run import train

    settings = override(load_recipe(recipe), Overrides(epochs, image_size, batch_size, weights, seed))
    model_name = _model_name(name, data, settings.name)
    out = out or Path("runs") / model_name
    outcome = train(data, settings, out, model_name, overwrite=overwrite)
    test, validation = outcome.test, outcome.validation
    rate = outcome.feature_images_per_second
    speed = f"{rate:,.0f} through the backbone" if rate else f"{outcome.images_per_second:,.0f}"
    click.echo(
        f"test accuracy       {test.accuracy:.1%} of {test.images} pictures "
        f"(95 % interval {test.accuracy_low:.1%} to {test.accuracy_high:.1%})"
    )
    click.echo(f"validation accuracy {validation.accuracy:.1%} of {validation.images} pictures")
    click.echo(f"time                {outcome.seconds:.0f} s; training pictures per second: {speed}")
    click.echo(f"run directory       {out}")
    click.echo(f"report              {out / 'report.html'}")
    click.echo(f"next                edge-convert run {out}")


def _model_name(name: str | None, data: str, recipe_name: str) -> str:
    """The name that was asked for, if it can be one, else one made of data and recipe."""
    pattern = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
    if name is not None:
        if not re.fullmatch(pattern, name):
            raise UsageError(f"--name: expected up to 64 letters, digits, '.', '_' or '-', got {name!r}")
        return name
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{Path(data).resolve().name}-{recipe_name}").lstrip("._-")
    return stem[:64] or "model"


def main() -> NoReturn:
    """Entry point of the console script."""
    run_cli(cli)


if __name__ == "__main__":
    main()
