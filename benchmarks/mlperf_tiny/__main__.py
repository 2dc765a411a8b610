"""Command line: ``python -m benchmarks.mlperf_tiny``, or ``make bench-mlperf-tiny``."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import click

from edge_runtime.cli_support import require_extra, run_cli

_BESIDE_CHECKOUT = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "mlperf_tiny_ic"
_QUICK_S = 5.0


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    default=_BESIDE_CHECKOUT,
    help="Folder with the published files and the folder eval [default: ../shared/data/mlperf_tiny_ic].",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("reports/mlperf-tiny"),
    show_default=True,
    help="Folder for mlperf-tiny.md and mlperf-tiny.json.",
)
@click.option("--queries", type=click.IntRange(min=1), default=1024, show_default=True, help="Least number of queries.")
@click.option(
    "--duration", "duration_s", type=click.FloatRange(min=0), help="Least seconds for each file [default: 60]."
)
@click.option("--threads", type=click.IntRange(1, 256), default=1, show_default=True, help="Threads in one inference.")
@click.option("--quick", is_flag=True, help=f"Take {_QUICK_S:g} s for each file; LoadGen requires 60.")
@click.option("--overwrite", is_flag=True, help="Replace existing files.")
def cli(
    data: Path, out: Path, queries: int, duration_s: float | None, threads: int, quick: bool, overwrite: bool
) -> int:
    """Measure the published ResNet8 files and our conversion, beside the published targets.

    Exit code 1 where something could not be measured.
    """
    require_extra("python -m benchmarks.mlperf_tiny", "convert", "tensorflow")
    from benchmarks.mlperf_tiny.report import StreamSettings, render, run_task
    from benchmarks.peers.report import free_files, publish

    files = free_files(out, "mlperf-tiny", overwrite=overwrite)
    if duration_s is None:
        duration_s = _QUICK_S if quick else StreamSettings.duration_s
    command = shlex.join(["python", "-m", "benchmarks.mlperf_tiny", *sys.argv[1:]])
    report = run_task(data, StreamSettings(queries, duration_s, threads), command)
    publish(files, report, render(report), overwrite=overwrite)
    return 1 if report.not_measured else 0


if __name__ == "__main__":
    run_cli(cli)
