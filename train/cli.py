"""Command line of ``edge-train``."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NoReturn

import click

from edge_runtime.cli_support import require_extra, run_cli, say
from edge_runtime.errors import UsageError

_DEFAULT_RECIPE = "cnn-small"
_DEFAULT_DATA = "smileys"


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
def cli() -> None:
    """Train an image classifier for a small device."""


@cli.command()
def recipes() -> None:
    """List the built-in recipes, one line each."""
    from train.recipe import load_recipe, recipe_names

    names = recipe_names()
    for name in names:
        say(f"{name:<{max(map(len, names))}}  {load_recipe(name).summary}")


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--count", type=click.IntRange(1), default=12, metavar="N", help="Number of images.")
@click.option("--seed", type=click.IntRange(0), default=0, help="Seed of the drawing.")
def draw(folder: Path, count: int, seed: int) -> None:
    """Draw new images in the style of the built-in set smileys into FOLDER, to test a model with."""
    from edge_runtime.workstation.datasets.resolve import draw_images

    draw_images(folder, count, seed)
    say(f"{count} images in {folder}")


@cli.command(short_help="Audit a data set before training.")
@click.argument("source", metavar="SRC")
@click.option("--sha256", metavar="HEX", help="Expected SHA-256 of the zip.")
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="DIR", help="Folder of the report.  [default: audits/NAME]"
)
@click.option(
    "--clean",
    type=click.Path(path_type=Path),
    metavar="FILE.csv",
    help="Write an index of the usable images without copies, as a source for edge-train run --data.",
)
@click.option("--json", "as_json", is_flag=True, help="Print findings.json instead of the summary.")
@click.option("--overwrite", is_flag=True, help="Replace an existing report or index.")
def data(source: str, sha256: str | None, out: Path | None, clean: Path | None, as_json: bool, overwrite: bool) -> None:
    """Find broken, misnamed, duplicate and leaking files and unbalanced classes in SRC.

    SRC is a source as in edge-train run --data. Writes report.html and findings.json; no image is changed.
    """
    require_extra("edge-train data", "train", "imagehash", "jinja2")
    from train.intake.audit_report import run_audit

    run_audit(source, sha256, out, clean, as_json=as_json, overwrite=overwrite)


@cli.command()
@click.option(
    "--data",
    default=_DEFAULT_DATA,
    metavar="SRC",
    help="A folder with one folder of images per class (also inside train/, validation/, test/), a zip of one, the "
    "URL of such a zip, an index.csv written by edge-train data --clean, or the built-in set smileys.",
)
@click.option("--sha256", metavar="HEX", help="Expected SHA-256 of the zip.")
@click.option(
    "--recipe", default=_DEFAULT_RECIPE, metavar="NAME|FILE.toml", help="Recipe: all settings of the training."
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="TABLE.FIELD=VALUE",
    help="Change a field of the recipe, such as optimizer.learning_rate=1e-4; may be repeated.",
)
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="RUN", help="Run directory.  [default: runs/DATA-RECIPE]"
)
@click.option(
    "--epochs", type=click.IntRange(1), help="Epochs of the first phase; finetune.epochs sets those of the second."
)
@click.option("--image-size", type=click.IntRange(1), metavar="S", help="Side of the model input, in pixels.")
@click.option("--batch-size", type=click.IntRange(1), metavar="B", help="Images per step.")
@click.option(
    "--weights",
    metavar="imagenet|none|FILE.h5",
    help="Initial weights of a backbone; FILE.h5 holds one without its top layer.",
)
@click.option("--seed", type=click.IntRange(0), help="Seed of split, initialisation, shuffling and augmentation.")
@click.option("--name", metavar="MODEL_NAME", help="Name of the model and its exported files.  [default: DATA-RECIPE]")
@click.option(
    "--also",
    default="",
    show_default=False,
    metavar="FORMAT,..",
    help="Also save the model as h5, saved_model or weights.",
)
@click.option("--device", type=click.Choice(["auto", "cpu", "gpu"]), default="auto", help="Device to train on.")
@click.option(
    "--precision",
    type=click.Choice(["auto", "float32", "mixed"]),
    default="auto",
    help="mixed computes in 16 bits with 32-bit weights; auto selects it on GPUs with 16-bit matrix units.",
)
@click.option(
    "--distributed",
    default="auto",
    metavar="auto|off|INDEX/COUNT@HOST:PORT",
    help="auto uses all GPUs of this host, off only one. INDEX/COUNT@HOST:PORT joins COUNT processes that train one "
    "model; process 0 listens on HOST:PORT (needs KERAS_BACKEND=jax).",
)
@click.option("--deterministic", is_flag=True, help="Bit-identical results for the same seed on a GPU too; slower.")
@click.option("--overwrite", is_flag=True, help="Replace an existing run directory or interrupted training.")
@click.option("--resume", is_flag=True, help="Continue an interrupted training.")
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

    By default trains the recipe cnn-small on the built-in set smileys, into runs/smileys-cnn-small.
    """
    from train.hardware import backend_package

    packages = ("keras", backend_package(), "h5py", "matplotlib", "jinja2", "tomli_w", "sklearn", "imagehash")
    require_extra("edge-train run", "jax" if backend_package() == "jax" else "train", *packages)
    from train.hardware import parse_hardware
    from train.run import Request, print_summary, resolve_recipe, silent_unless, train
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
    if os.fsencode(out.absolute()).decode(errors="replace") != str(out.absolute()):
        raise UsageError(f"--out {out}: expected a path in UTF-8, since TensorFlow writes to no other")
    with silent_unless(hardware.is_chief):
        print_summary(train(Request(data, sha256, chosen, out, model_name, formats, hardware, overwrite, resume)), out)


@cli.command()
@click.argument("run_directory", metavar="RUN", type=click.Path(path_type=Path))
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(path_type=Path))
def predict(run_directory: Path, paths: tuple[Path, ...]) -> int:
    """Classify images with the trained Keras model and print source, label and score of each.

    Tests a model before its conversion; use edge-run classify for exported models.
    """
    from train.hardware import backend_package

    require_extra("edge-train predict", "train", "keras", backend_package())
    from train.predict import predict_images

    return predict_images(run_directory, paths)


def _model_name(name: str | None, data: str, recipe_name: str) -> str:
    """Check the name that was given, or make one from the data source and the recipe."""
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
