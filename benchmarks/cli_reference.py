"""``edge-bench reference``: make a report fit to stand in ``benchmarks/reference``."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("report", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("benchmarks/reference"),
    show_default=True,
    help="Folder of the reference reports.",
)
@click.option("--board", metavar="NAME", help="Name of the board; without it what the machine says of itself.")
@click.option("--overwrite", is_flag=True, help="Replace an older reference.")
def reference(report: Path, out: Path, board: str | None, overwrite: bool) -> int:
    """Write REPORT as a reference of this board: <board>-<cpu>-<os>/<model>.json, with names in place of paths.

    Refused are reports that are marked invalid or noisy, that --quick made, that have no Keras beside, or whose
    checkout held altered files.
    """
    from benchmarks.comparison.reference import write_reference

    click.echo(write_reference(report, out, board=board, overwrite=overwrite))
    return 0
