"""Options of ``edge-run classify``, and the check that they go together."""

# ruff: noqa: RUF009  an option is a dataclass field, made by a function
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click

from edge_runtime.cli_support import declare, with_options
from edge_runtime.commands.output import choose_format
from edge_runtime.errors import UsageError

STANDARD_INPUT = "-"

_images = partial(declare, "Images")
_rows = partial(declare, "Rows")
_speed = partial(declare, "Speed")


@dataclass(frozen=True)
class ClassifyJob:
    """The argument PATH... and the options of ``edge-run classify``; the help text of a field is its documentation."""

    paths: tuple[str, ...]
    list_file: str | None = _images(
        "--list",
        type=click.Path(),
        metavar="FILE",
        help="Also classify the paths in this file, one per line; - is stdin.",
    )
    null: bool = _images("-0", "--null", is_flag=True, help="Paths of a list end with NUL bytes, as from find -print0.")
    watch: bool = _images(
        "--watch", is_flag=True, help="Keep running, and classify each new file in the folders once it is complete."
    )
    only_new: bool = _images("--only-new", is_flag=True, help="With --watch: skip files that exist already.")
    top_k: int = _rows(
        "--top-k", type=click.IntRange(min=1), default=3, show_default=True, metavar="K", help="Predictions per image."
    )
    format_name: str | None = _rows(
        "--format",
        type=click.Choice(["table", "jsonl", "csv"]),
        help="Format of the rows [default: by the suffix of --output, else table].",
    )
    output: Path | None = _rows(
        "--output", type=click.Path(path_type=Path), help="Write to this file, completely or not at all."
    )
    overwrite: bool = _rows("--overwrite", is_flag=True, help="Replace an existing --output file.")
    skip_done: bool = _rows(
        "--skip-done", is_flag=True, help="Append to the --output file, row by row, only images without a row."
    )
    retry_failed: bool = _rows(
        "--retry-failed", is_flag=True, help="With --skip-done: also images whose row is an error."
    )
    workers: int = _speed(
        "--workers",
        type=click.IntRange(0, 256),
        default=0,
        metavar="N",
        help="Images in parallel [default: one per core].",
    )
    threads: int = _speed(
        "--threads",
        type=click.IntRange(1, 256),
        default=1,
        show_default=True,
        metavar="N",
        help="Threads inside one inference; for a folder, more workers are faster.",
    )

    @property
    def format(self) -> str:
        """Format of the rows: ``table``, ``jsonl`` or ``csv``."""
        return choose_format(self.format_name, self.output, "table")

    @property
    def appends(self) -> bool:
        """True if rows reach the file one by one: when resuming, and when watching, which has no end."""
        return self.output is not None and (self.skip_done or self.watch)

    def check(self) -> None:
        """Check that the options go together.

        Raises:
            UsageError: They do not.
        """
        self._check_inputs()
        if self.skip_done and self.output is None:
            raise UsageError("--skip-done: goes with --output FILE, whose rows tell which images are done")
        if self.skip_done and self.overwrite:
            raise UsageError("--skip-done: continues the file that --overwrite would replace; give one of the two")
        if self.retry_failed and not self.skip_done:
            raise UsageError("--retry-failed: goes with --skip-done")
        if self.appends and self.format == "table":
            option = "--skip-done" if self.skip_done else "--watch"
            raise UsageError(f"{option}: expected an --output of --format jsonl or csv, got a table")
        if self.watch and self.overwrite:
            raise UsageError("--watch: rows are appended one by one, so there is no --overwrite; choose another name")

    def _check_inputs(self) -> None:
        is_piped = STANDARD_INPUT in self.paths
        if not self.paths and self.list_file is None:
            raise UsageError("expected PATH... or --list FILE with the images to classify, got neither")
        if self.null and self.list_file is None and not is_piped:
            raise UsageError("--null: goes with --list FILE or the path -, whose paths end with NUL bytes")
        if is_piped and self.list_file is not None:
            raise UsageError("--list: the path - is a list on standard input already; give one of the two")
        if self.watch and (self.list_file is not None or is_piped):
            raise UsageError("--watch: expected folders, got a list")
        if self.only_new and not self.watch:
            raise UsageError("--only-new: goes with --watch")


def classify_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the argument PATH... and the options, and pass them as ``job``."""
    decorated = with_options(ClassifyJob, "job")(function)
    return click.argument("paths", nargs=-1, type=click.Path(), metavar="PATH...")(decorated)
