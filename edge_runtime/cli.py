"""``edge-run``: a model or bundle on pictures, videos and cameras."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import click

from edge_runtime import __version__
from edge_runtime.cli_support import run_cli
from edge_runtime.commands.model_choice import ModelChoice, model_options

_top_k = click.option(
    "--top-k", type=click.IntRange(min=1), default=3, show_default=True, metavar="K", help="Predictions for each."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="edge-run")
def cli() -> None:
    """Run an image classifier on pictures, videos and cameras.

    MODEL|BUNDLE is a bundle folder that edge-convert wrote, or one .tflite or .onnx file. A file from elsewhere needs
    --labels and --crop, and a float one --input-range, because nothing is guessed.
    """


@cli.command()
@model_options
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH...")
@_top_k
@click.option(
    "--format",
    "format_name",
    type=click.Choice(["table", "jsonl", "csv"]),
    help="Form of the rows [default: by the name of --output, else table].",
)
@click.option("--output", type=click.Path(path_type=Path), help="Write to this file instead, whole or not at all.")
@click.option("--overwrite", is_flag=True, help="Replace the file of --output.")
@click.option(
    "--workers", type=click.IntRange(min=0), default=0, metavar="N", help="Pictures at once [default: one per core]."
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Threads inside one inference; more workers are faster for a folder.",
)
def classify(
    choice: ModelChoice,
    paths: tuple[Path, ...],
    top_k: int,
    format_name: str | None,
    output: Path | None,
    overwrite: bool,
    workers: int,
    threads: int,
) -> int:
    """Classify picture files, and folders of them at any depth.

    A picture that cannot be read is a row with its reason, and the others are classified. Exit code: 0 all done,
    1 some failed, 3 none could be classified, 2 wrong usage, 4 model, 5 runtime, 7 output, 130 Ctrl-C.
    """
    from edge_runtime.commands.classify import ClassifyJob, run_classify
    from edge_runtime.commands.output import choose_format
    from edge_runtime.native_stderr import silence_native_stderr

    chosen = choose_format(format_name, output, "table")
    with silence_native_stderr():
        return run_classify(choice, ClassifyJob(paths, top_k, chosen, output, overwrite, workers, threads))


@cli.command()
@model_options
@click.option(
    "--source",
    default="0",
    show_default=True,
    help="Camera as 0 or /dev/video0, rtsp:// or http:// address, or video file.",
)
@click.option("--format", "format_name", type=click.Choice(["text", "jsonl", "csv"]), default="text", show_default=True)
@click.option("--max-frames", type=click.IntRange(min=1), metavar="N", help="Stop after N answers.")
@_top_k
@click.option(
    "--threads",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Threads inside one inference [default: one per core].",
)
def camera(
    choice: ModelChoice, source: str, format_name: str, max_frames: int | None, top_k: int, threads: int
) -> None:
    """Classify the frames of a camera, stream or video file, one line each.

    From a camera or stream always the newest frame, from a file every frame. Ctrl-C or SIGTERM stops it with exit code
    0 and a summary. Exit code 6: the source cannot be opened, or gave no frame for 5 seconds.
    """
    from edge_runtime.commands.camera import run_camera
    from edge_runtime.native_stderr import silence_native_stderr

    with silence_native_stderr():
        run_camera(choice, source, format_name=format_name, max_frames=max_frames, top_k=top_k, threads=threads)


@cli.command()
@model_options
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def inspect(choice: ModelChoice, as_json: bool) -> int:
    """Show what a model or bundle is, takes and gives, and whether its files are intact.

    Exit code 4: a file is missing, was altered or is not a model.
    """
    from edge_runtime.commands.inspect import run_inspect
    from edge_runtime.native_stderr import silence_native_stderr

    with silence_native_stderr():
        return run_inspect(choice, as_json=as_json)


def main() -> NoReturn:
    """Entry point of the console script."""
    run_cli(cli)


if __name__ == "__main__":
    main()
