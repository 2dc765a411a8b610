"""Command line of ``edge-train``."""

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
    from train.recipe import load_recipe, recipe_names

    names = recipe_names()
    for name in names:
        click.echo(f"{name:<{max(map(len, names))}}  {load_recipe(name).summary}")


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--count", type=click.IntRange(1), default=12, show_default=True, metavar="N")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Another seed, other images.")
def draw(folder: Path, count: int, seed: int) -> None:
    """Draw images like those of smileys, which no model has seen, into FOLDER: to classify, print or hold up."""
    from edge_runtime.workstation.datasets.resolve import draw_images

    draw_images(folder, count, seed)
    click.echo(f"{count} images in {folder}")


@cli.command(short_help="Look for broken, copied, leaking and unbalanced images.")
@click.argument("source", metavar="SRC")
@click.option("--sha256", metavar="HEX", help="What the zip must hash to.")
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="DIR", help="Folder of the report.  [default: audits/NAME]"
)
@click.option(
    "--clean",
    type=click.Path(path_type=Path),
    metavar="FILE.csv",
    help="List what is fit for training, one of each copy, as a source for --data; the images stay as they are.",
)
@click.option("--json", "as_json", is_flag=True, help="Print findings.json instead of the summary.")
@click.option("--overwrite", is_flag=True, help="Replace an existing report or index.")
def data(source: str, sha256: str | None, out: Path | None, clean: Path | None, as_json: bool, overwrite: bool) -> None:
    """Look for broken, wrongly named, copied, leaking and unbalanced files in SRC before anything is trained.

    SRC is what edge-train run --data takes. Writes report.html and findings.json; the images stay as they are.
    """
    require_extra("edge-train data", "train", "imagehash", "jinja2")
    from train.cli_data import AuditRequest, run_audit

    run_audit(AuditRequest(source, sha256, out, clean, as_json, overwrite))


@cli.command()
@click.option(
    "--data",
    default=_DEFAULT_DATA,
    show_default=True,
    metavar="SRC",
    help="A folder with one folder of images per class (also inside train/, validation/, test/), a zip of one, the "
    "URL of such a zip, an index.csv that edge-train data --clean wrote, or smileys.",
)
@click.option("--sha256", metavar="HEX", help="What the zip must hash to.")
@click.option("--recipe", default=_DEFAULT_RECIPE, show_default=True, metavar="NAME|FILE.toml", help="What to train.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="TABLE.FIELD=VALUE",
    help="Change a field of the recipe, such as optimizer.learning_rate=1e-4; may be repeated.",
)
@click.option("--out", type=click.Path(path_type=Path), metavar="RUN", help="[default: runs/DATA-RECIPE]")
@click.option("--epochs", type=click.IntRange(1), help="Of the first phase; finetune.epochs are those of the second.")
@click.option("--image-size", type=click.IntRange(1), metavar="S", help="Side of the model's input, in pixels.")
@click.option("--batch-size", type=click.IntRange(1), metavar="B", help="Images per step.")
@click.option(
    "--weights", metavar="imagenet|none|FILE.h5", help="What a backbone starts from; FILE.h5 holds one without top."
)
@click.option("--seed", type=click.IntRange(0), help="Of split, initialisation, shuffling and augmentation.")
@click.option("--name", metavar="MODEL_NAME", help="Of the model and its exported files.  [default: DATA-RECIPE]")
@click.option(
    "--also", default="", metavar="FORMAT,..", help="Save the model as h5, saved_model or weights too, besides .keras."
)
@click.option(
    "--device", type=click.Choice(["auto", "cpu", "gpu"]), default="auto", show_default=True, help="What computes."
)
@click.option(
    "--precision",
    type=click.Choice(["auto", "float32", "mixed"]),
    default="auto",
    show_default=True,
    help="mixed computes in 16 bits and keeps the weights in 32; auto does so on GPUs that are made for it.",
)
@click.option(
    "--distributed",
    default="auto",
    show_default=True,
    metavar="auto|off|INDEX/COUNT@HOST:PORT",
    help="auto uses all GPUs of this host, off one; the last form makes this process INDEX (from 0) of COUNT that "
    "train one model together, the first of which listens on HOST:PORT (under KERAS_BACKEND=jax).",
)
@click.option(
    "--deterministic", is_flag=True, help="The same bits for the same seed on a GPU too, at a price in speed."
)
@click.option("--overwrite", is_flag=True, help="Replace an existing run directory, or an interrupted training.")
@click.option("--resume", is_flag=True, help="Go on with an interrupted training, with the same curve.")
def run(
    data: str,
    sha256: str | None,
    recipe: str,
    settings: tuple[str, ...],
    out: Path | None,
    epochs: int | None,
    image_size: int | None,
    batch_size: int | None,
    weights: str | None,
    seed: int | None,
    name: str | None,
    also: str,
    device: str,
    precision: str,
    distributed: str,
    deterministic: bool,
    overwrite: bool,
    resume: bool,
) -> None:
    """Train a recipe on images and write a run directory.

    Without options: the recipe cnn-small on the built-in drawings `smileys`, into runs/smileys-cnn-small.
    """
    from train.backend import backend_package

    packages = ("keras", backend_package(), "h5py", "matplotlib", "jinja2", "tomli_w", "sklearn", "imagehash")
    require_extra("edge-train run", "jax" if backend_package() == "jax" else "train", *packages)
    from train.cli_run import print_summary, resolve_recipe, silent_unless
    from train.hardware import parse_hardware
    from train.run import Request, train
    from train.saving import Format, parse_formats

    formats = parse_formats(also)
    if Format.SAVED_MODEL in formats:
        require_extra("edge-train run --also saved_model", "train", "tensorflow")
    hardware = parse_hardware(device, precision, distributed, deterministic=deterministic)

    options = {
        "fit.epochs": epochs,
        "input.image_size": image_size,
        "fit.batch_size": batch_size,
        "backbone.weights": weights,
        "seed": seed,
    }
    chosen = resolve_recipe(recipe, options, settings)
    model_name = _model_name(name, data, chosen.name)
    out = out or Path("runs") / model_name
    with silent_unless(hardware.is_chief):
        print_summary(train(Request(data, sha256, chosen, out, model_name, formats, hardware, overwrite, resume)), out)


@cli.command()
@click.argument("run_directory", metavar="RUN", type=click.Path(path_type=Path))
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(path_type=Path))
def predict(run_directory: Path, paths: tuple[Path, ...]) -> int:
    """Say what the trained Keras model answers for images: a line each with source, label and score.

    To try a model before it is converted; edge-run classify is the one for exports.
    """
    from train.backend import backend_package

    require_extra("edge-train predict", "train", "keras", backend_package())
    from train.cli_run import predict_images

    return predict_images(run_directory, paths)


def _model_name(name: str | None, data: str, recipe_name: str) -> str:
    """The name that was asked for, if it can be one, else one made of data and recipe."""
    pattern = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
    if name is not None:
        if not re.fullmatch(pattern, name):
            raise UsageError(f"--name: expected up to 64 letters, digits, '.', '_' or '-', got {name!r}")
        return name
    source = Path(data.partition("?")[0]).resolve()
    source_name = source.stem if source.suffix.lower() in (".zip", ".csv") else source.name
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{source_name}-{recipe_name}").lstrip("._-")
    return stem[:64] or "model"


def main() -> NoReturn:
    """Entry point of the console script."""
    run_cli(cli)


if __name__ == "__main__":
    main()
