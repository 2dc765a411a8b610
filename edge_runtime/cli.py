"""Command line ``edge-run``: classify images, videos and camera streams."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import NoReturn

import click

from edge_runtime.cli_support import SectionedCommand, run_cli, with_options
from edge_runtime.commands.camera_options import CameraJob
from edge_runtime.commands.options import ClassifyJob, ModelChoice, classify_options, model_options
from edge_runtime.platform.process import collect_rarely, silence_native_stderr
from edge_runtime.version import __version__


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="edge-run")
def cli() -> None:
    """Run an image classifier on images, videos and cameras.

    MODEL|BUNDLE is a bundle folder that edge-convert wrote, or one .tflite or .onnx file. A file from elsewhere needs
    --crop, and --labels and --input-range where it does not carry them, because nothing is guessed.
    """


@cli.command(cls=SectionedCommand)
@model_options
@classify_options
def classify(choice: ModelChoice, job: ClassifyJob) -> int:
    """Classify image files, folders of them at any depth, and patterns such as 'photos/**/*.jpg'.

    The path - is a list of paths on standard input. An image that cannot be read becomes a row with the reason, and the
    run continues. If a run with --skip-done is killed, the same command continues it; failed images count as done. With
    --watch, Ctrl-C or SIGTERM ends the run normally.

    Exit code: 0 all done, 1 some failed, 3 none could be classified, 2 wrong usage, 4 model, 5 runtime, 6 a watched
    folder is gone, 7 output, 130 Ctrl-C.
    """
    from edge_runtime.commands.classify import run_classify

    with silence_native_stderr():
        return run_classify(choice, job)


@cli.command(cls=SectionedCommand)
@model_options
@with_options(CameraJob, "job")
def camera(choice: ModelChoice, job: CameraJob) -> None:
    """Classify the frames of a camera, stream or video file, one line each.

    From a camera or stream always the newest frame, from a file every frame. A camera that stops is reopened until it
    works. Ctrl-C or SIGTERM stops it with exit code 0 and a summary. Exit code 6: cannot open the source at the start;
    7: cannot open the output file, port or folder.
    """
    from edge_runtime.commands.camera import run_camera

    with silence_native_stderr():
        run_camera(choice, job)


@cli.command()
@model_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def inspect(choice: ModelChoice, as_json: bool) -> int:
    """Show the contract, inputs and outputs of a model or bundle, and check its files.

    Exit code 4: a file is missing, was altered or is not a model.
    """
    from edge_runtime.commands.inspect import run_inspect

    with silence_native_stderr():
        return run_inspect(choice, as_json=as_json)


@cli.command()
@click.argument("model", required=False, type=click.Path(path_type=Path), metavar="[MODEL|BUNDLE]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(model: Path | None, as_json: bool) -> int:
    """Check this machine and suggest fixes.

    With a model or bundle, each file runs in a child process, its answers are compared with those of its conversion,
    and the variant that is fastest on this machine becomes the default. Exit code: 0 no problem (there may be
    warnings), 1 at least one problem, 4 no such model or bundle.
    """
    from edge_runtime.commands.doctor import run_doctor

    return run_doctor(model, as_json=as_json)


@cli.command(context_settings={"allow_interspersed_args": False})
@click.option("--name", help="Name of the service [default: edgekit- and the model's name].")
@click.option("--output", type=click.Path(path_type=Path), metavar="FILE", help="Write the unit to this file.")
@click.option("--overwrite", is_flag=True, help="Replace an existing --output file.")
@click.option("--memory", "memory_max", default="512M", show_default=True, metavar="LIMIT", help="Memory limit.")
@click.option(
    "--environment",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="File with EDGEKIT_SOURCE=... or EDGEKIT_WEBHOOK=..., for an address with a password.",
)
@click.argument(
    "arguments", nargs=-1, required=True, type=click.UNPROCESSED, metavar="MODEL|BUNDLE [CAMERA OPTIONS]..."
)
def service(
    arguments: tuple[str, ...],
    name: str | None,
    output: Path | None,
    overwrite: bool,
    memory_max: str,
    environment: Path | None,
) -> None:
    """Write a systemd unit that keeps edge-run camera running, with no more rights than it needs.

    Options of the service come before MODEL|BUNDLE, those of edge-run camera after it. Exit code: 0 written, 2 options
    that a service cannot use, 4 model, 7 the file exists or cannot be written.
    """
    from edge_runtime.commands.service import ServiceJob, run_service

    run_service(camera, arguments, ServiceJob(name, output, overwrite, memory_max, environment))


def main() -> NoReturn:
    """Entry point of the console script."""
    # numpy's linear algebra is not used, and starting its threads adds 50 ms to a cold start.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    collect_rarely()
    try:
        run_cli(cli)
    except SystemExit as stop:
        # Skip the teardown of NumPy, OpenCV and the runtime, which takes 40 ms; the system frees their memory anyway.
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()
        os._exit(stop.code if isinstance(stop.code, int) else 1)


if __name__ == "__main__":
    main()
