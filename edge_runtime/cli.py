"""Command line ``edge-run``: classify images, videos and camera streams."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from edge_runtime.cli_support import run_cli
from edge_runtime.commands.camera_options import camera_options
from edge_runtime.commands.model_choice import ModelChoice, model_options
from edge_runtime.platform.process import collect_rarely
from edge_runtime.version import __version__

if TYPE_CHECKING:
    from edge_runtime.commands.camera_options import CameraJob


class SectionedCommand(click.Command):
    """A command whose help lists options under headings.

    Args:
        sections: Name of the first option of each section, in the order of the options, to the section's heading.
    """

    def __init__(self, *arguments: Any, sections: Mapping[str, str], **others: Any) -> None:
        super().__init__(*arguments, **others)
        self._sections = sections

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections."""
        found: dict[str, list[tuple[str, str]]] = {}
        heading = "Options"
        for parameter in self.get_params(ctx):
            heading = self._sections.get(parameter.name or "", heading)
            record = parameter.get_help_record(ctx)
            if record and isinstance(parameter, click.Option):
                found.setdefault(heading, []).append(record)
        for title, records in found.items():
            with formatter.section(title):
                formatter.write_dl(records)


_CLASSIFY_SECTIONS = {"variant": "Model", "list_file": "Images", "top_k": "Rows", "workers": "Speed"}
_CAMERA_SECTIONS = {
    "variant": "Model",
    "source": "Source",
    "smooth": "Decision",
    "format": "Lines and files",
    "web": "Network",
    "max_frames": "Run",
}

_top_k = click.option(
    "--top-k", type=click.IntRange(min=1), default=3, show_default=True, metavar="K", help="Predictions for each."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="edge-run")
def cli() -> None:
    """Run an image classifier on images, videos and cameras.

    MODEL|BUNDLE is a bundle folder that edge-convert wrote, or one .tflite or .onnx file. A file from elsewhere needs
    --crop, and --labels and --input-range where it does not carry them, because nothing is guessed.
    """


@cli.command(cls=SectionedCommand, sections=_CLASSIFY_SECTIONS)
@model_options
@click.argument("paths", nargs=-1, type=click.Path(), metavar="PATH...")
@click.option(
    "--list",
    "list_file",
    type=click.Path(),
    metavar="FILE",
    help="Also the paths in this file, one a line; - is stdin.",
)
@click.option("-0", "--null", is_flag=True, help="Paths of a list end with NUL bytes, as of find -print0.")
@click.option("--watch", is_flag=True, help="Stay, and classify each new file in the folders as soon as it is whole.")
@click.option("--only-new", is_flag=True, help="With --watch: leave out what is in the folders already.")
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
    "--skip-done", is_flag=True, help="Go on with the file of --output: only images without a row, row by row."
)
@click.option("--retry-failed", is_flag=True, help="With --skip-done: also images whose row is an error.")
@click.option(
    "--workers", type=click.IntRange(0, 256), default=0, metavar="N", help="Images at once [default: one per core]."
)
@click.option(
    "--threads",
    type=click.IntRange(1, 256),
    default=1,
    show_default=True,
    metavar="N",
    help="Threads inside one inference; more workers are faster for a folder.",
)
def classify(
    choice: ModelChoice,
    paths: tuple[str, ...],
    list_file: str | None,
    null: bool,
    watch: bool,
    only_new: bool,
    top_k: int,
    format_name: str | None,
    output: Path | None,
    **others: Any,
) -> int:
    """Classify image files, folders of them at any depth, and patterns such as 'photos/**/*.jpg'.

    The path - is a list of paths on standard input. An image that cannot be read is a row with its reason, and the
    others are classified. Killed with --skip-done, the same command goes on where it was; images that failed count as
    done. With --watch, Ctrl-C or SIGTERM ends the run well.

    Exit code: 0 all done, 1 some failed, 3 none could be classified, 2 wrong usage, 4 model, 5 runtime, 6 a watched
    folder is gone, 7 output, 130 Ctrl-C.
    """
    from edge_runtime.commands.classify import ClassifyJob, InputChoice, run_classify
    from edge_runtime.commands.output import choose_format
    from edge_runtime.platform.process import silence_native_stderr

    inputs = InputChoice(paths, list_file, null, watch, only_new)
    chosen = choose_format(format_name, output, "table")
    with silence_native_stderr():
        return run_classify(choice, ClassifyJob(inputs, top_k, chosen, output, **others))


@cli.command(cls=SectionedCommand, sections=_CAMERA_SECTIONS)
@model_options
@camera_options
def camera(choice: ModelChoice, job: CameraJob) -> None:
    """Classify the frames of a camera, stream or video file, one line each.

    From a camera or stream always the newest frame, from a file every frame. A camera that stops is opened again and
    again. Ctrl-C or SIGTERM stops it with exit code 0 and a summary. Exit code 6: the source cannot be opened at the
    start; 7: the output, port or folder cannot be had.
    """
    from edge_runtime.commands.camera import run_camera
    from edge_runtime.platform.process import silence_native_stderr

    with silence_native_stderr():
        run_camera(choice, job)


@cli.command()
@model_options
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def inspect(choice: ModelChoice, as_json: bool) -> int:
    """Show what a model or bundle is, takes and gives, and whether its files are intact.

    Exit code 4: a file is missing, was altered or is not a model.
    """
    from edge_runtime.commands.inspect import run_inspect
    from edge_runtime.platform.process import silence_native_stderr

    with silence_native_stderr():
        return run_inspect(choice, as_json=as_json)


@cli.command()
@click.argument("model", required=False, type=click.Path(path_type=Path), metavar="[MODEL|BUNDLE]")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def doctor(model: Path | None, as_json: bool) -> int:
    """Look for what keeps this machine from running models, and say the remedy of each.

    With a model or bundle, each file is opened and run in a process of its own, its answers are compared with those of
    its conversion, and the one that is fastest here is remembered and taken by default from then on. Exit code: 0 no
    problem (there may be warnings), 1 at least one problem, 4 no such model or bundle.
    """
    from edge_runtime.commands.doctor import run_doctor

    return run_doctor(model, as_json=as_json)


@cli.command(context_settings={"allow_interspersed_args": False})
@click.option("--name", help="Of the service [default: edgekit- and the model's name].")
@click.option("--output", type=click.Path(path_type=Path), metavar="FILE", help="Write the unit file here.")
@click.option("--overwrite", is_flag=True, help="Replace the file of --output.")
@click.option("--memory", "memory_max", default="512M", show_default=True, metavar="LIMIT", help="Memory limit.")
@click.option(
    "--environment",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="File with EDGEKIT_SOURCE=... or EDGEKIT_WEBHOOK=..., for an address that holds a password.",
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
    that a service cannot have, 4 model, 7 the file exists or cannot be written.
    """
    from edge_runtime.commands.service import ServiceJob, run_service

    run_service(camera, arguments, ServiceJob(name, output, overwrite, memory_max, environment))


def main() -> NoReturn:
    """Entry point of the console script."""
    # The arithmetic of numpy's linear algebra is not used, and starting its threads costs a cold start 50 ms.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    collect_rarely()
    try:
        run_cli(cli)
    except SystemExit as stop:
        # To take apart what NumPy, OpenCV and the runtime have built costs 40 ms, and the system frees it anyway.
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()
        os._exit(stop.code if isinstance(stop.code, int) else 1)


if __name__ == "__main__":
    main()
