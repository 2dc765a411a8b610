"""``edge-convert``: run directory to bundle."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import click

from convert.job import SUPPORTED_VARIANTS
from edge_runtime.cli_support import note, require_extra, run_cli
from edge_runtime.contract import Variant
from edge_runtime.errors import GateError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Export a trained model, prove what each export lost, and pack a bundle."""


@cli.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--variant",
    "variants",
    multiple=True,
    type=click.Choice([variant.value for variant in SUPPORTED_VARIANTS]),
    help="What to export; may be given more than once.  [default: all]",
)
@click.option("--out", type=click.Path(path_type=Path), help="The bundle.  [default: bundles/<model name>]")
@click.option(
    "--calibration",
    metavar="SRC",
    help="Labelled pictures for calibration and checks, instead of the run's own: a folder of class folders, a .zip or "
    "URL of one, a .csv that lists pictures, or smileys.",
)
@click.option("--calibration-images", type=click.IntRange(1), default=500, show_default=True, metavar="N")
@click.option(
    "--max-drop",
    type=click.FloatRange(0, 100),
    default=1.0,
    show_default=True,
    metavar="PP",
    help="Allowed loss of accuracy against Keras, in percentage points.",
)
@click.option("--overwrite", is_flag=True, help="Replace an existing bundle.")
def run(
    run: Path,
    variants: tuple[str, ...],
    out: Path | None,
    calibration: str | None,
    calibration_images: int,
    max_drop: float,
    overwrite: bool,
) -> None:
    """Convert the run directory RUN into a bundle.

    Exits with 8 when an export lost more than --max-drop; it is then left out of the bundle.
    """
    require_extra("edge-convert", "convert", "tensorflow", "keras", "tf2onnx", "onnx", "onnxruntime", "flatbuffers")
    from convert.conversion import Options, convert_run
    from convert.report import text_table

    chosen = tuple(dict.fromkeys(Variant(name) for name in variants)) or SUPPORTED_VARIANTS
    options = Options(chosen, calibration, calibration_images, max_drop, overwrite)
    bundle, measured = convert_run(run, out, options, report=note)
    click.echo(text_table(measured))
    failed = [artifact.variant.value for artifact in measured.artifacts if artifact.check and not artifact.check.passed]
    if len(failed) < len(measured.artifacts):
        click.echo(f"\nbundle: {bundle}\nreport: {bundle / 'conversion.md'}\nnext:   edge-run classify {bundle} PHOTO")
    if failed:
        raise GateError(f"{', '.join(failed)}: lost more than allowed and is not in the bundle; see the table above")


def main() -> NoReturn:
    """Console script."""
    run_cli(cli)
