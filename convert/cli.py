"""``edge-convert``: a trained model to a bundle, and what a model file needs of a device."""

from __future__ import annotations

import signal
from typing import NoReturn

import click

from convert.cli_lint import lint
from convert.cli_run import run
from edge_runtime.cli_support import run_cli


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Export a trained model, prove what each export lost, and pack a bundle."""


cli.add_command(run)
cli.add_command(lint)


def main() -> NoReturn:
    """Console script."""
    # A conversion that is stopped removes its work folder, however it is stopped.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    run_cli(cli)
