"""Helpers shared by the command lines: error messages, exit codes, progress bars and common options."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from edge_runtime.contract import Crop
from edge_runtime.errors import EXIT_INTERRUPTED, EdgeKitError, MissingExtraError, UsageError
from edge_runtime.labels import check_labels

Progress = Callable[[int], None]


def run_cli(command: click.Command) -> NoReturn:
    """Run a click command as a console script: one clear sentence and an exit code instead of a traceback."""
    try:
        result = command.main(standalone_mode=False)
        code = result if isinstance(result, int) else 0
        sys.stdout.flush()
    except click.exceptions.Abort:
        code = EXIT_INTERRUPTED
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except EdgeKitError as error:
        click.echo(f"error: {error}", err=True)
        code = error.exit_code
    except BrokenPipeError:
        # The reader (head, less) has gone; keep the interpreter from complaining about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code)


def require_extra(command: str, extra: str, *packages: str) -> None:
    """Raise MissingExtraError for the first of ``packages`` (import names) that is not installed."""
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(command, extra, package)


@contextlib.contextmanager
def progress_bar(label: str, total: int) -> Iterator[Progress]:
    """A bar on standard error while it is a terminal, silence otherwise; call the yielded function with a count."""
    if not sys.stderr.isatty():
        yield lambda _count: None
        return
    with click.progressbar(length=total, label=label, file=sys.stderr, show_pos=True) as bar:
        yield bar.update


def note(message: str) -> None:
    """One line for a person, on standard error, so that standard output stays data."""
    click.echo(message, err=True)


def read_labels_file(path: Path) -> tuple[str, ...]:
    """Read labels, one a line.

    Raises:
        UsageError: The file cannot be read, or is not a list of at least two labels.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: labels cannot be read ({error})") from error
    labels = tuple(line.strip() for line in lines)
    try:
        check_labels(labels)
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from error
    return labels


def parse_input_range(text: str) -> tuple[float, float]:
    """Parse ``LOW,HIGH``, the real values that pixels 0 and 255 become."""
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"--input-range: expected LOW,HIGH such as 0,1 or -1,1 or 0,255, got {text!r}") from error
    if not low < high:
        raise UsageError(f"--input-range: expected LOW below HIGH, got {text!r}")
    return low, high


def foreign_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Options that complete the contract of a model without a manifest."""
    options: Sequence[Callable[[Callable[..., Any]], Callable[..., Any]]] = (
        click.option(
            "--labels",
            type=click.Path(path_type=Path),
            help="Labels, one a line, for a model without a manifest.",
        ),
        click.option(
            "--crop",
            type=click.Choice([crop.value for crop in Crop]),
            help="How images are cropped, for a model without a manifest.",
        ),
        click.option(
            "--input-range",
            metavar="LOW,HIGH",
            help="What pixels 0 and 255 become, for a float or int8 model without a manifest.",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function
