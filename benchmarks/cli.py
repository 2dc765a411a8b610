"""``edge-bench``: what each export costs and gains against the full Keras model, on this machine."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import NoReturn

import click

from edge_runtime import __version__
from edge_runtime.cli_support import note, require_extra, run_cli
from edge_runtime.contract import Variant

_DEFAULT_INVOCATIONS = 200
_DEFAULT_TIMEOUT_S = 600.0


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="edge-bench")
def cli() -> None:
    """Measure accuracy, latency, cold start, memory and size of exported models."""


@cli.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--data",
    metavar="SRC",
    help="Labelled pictures: a folder of class folders, a .zip or URL of one, a .csv that lists pictures, or smileys.",
)
@click.option(
    "--split",
    type=click.Choice(["train", "validation", "test"]),
    help="Part of the data; without it test, else validation.",
)
@click.option("--keras", metavar="RUN", type=click.Path(path_type=Path), help="Run directory to compare with.")
@click.option("--out", type=click.Path(path_type=Path), help="Report directory; without it reports/<model name>.")
@click.option(
    "--variant",
    "variants",
    multiple=True,
    type=click.Choice([variant.value for variant in Variant]),
    help="Only this export; may be given several times.",
)
@click.option("--limit", type=click.IntRange(min=1), help="At most so many pictures, drawn with a fixed seed.")
@click.option(
    "--invocations",
    type=click.IntRange(min=1),
    default=_DEFAULT_INVOCATIONS,
    show_default=True,
    help="Timed calls of each export; Keras predict gets fewer.",
)
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Threads in one inference.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=1),
    default=_DEFAULT_TIMEOUT_S,
    show_default=True,
    help="Seconds after which a measuring process is stopped.",
)
@click.option("--overwrite", is_flag=True, help="Replace an existing report.")
def run(
    bundle: Path,
    data: str | None,
    split: str | None,
    keras: Path | None,
    out: Path | None,
    variants: tuple[str, ...],
    limit: int | None,
    invocations: int,
    threads: int,
    timeout_s: float,
    overwrite: bool,
) -> int:
    """Measure every export of BUNDLE, and with --keras the model it came from, each in its own process."""
    if keras is not None:
        require_extra("edge-bench run --keras", "train", "tensorflow", "keras")
    from benchmarks.bench import remember_fastest, run_bench
    from benchmarks.plan import BenchConfig
    from benchmarks.report.markdown import caveats, render_table
    from benchmarks.report.record import MARKDOWN_FILE
    from edge_runtime.datasets.samples import Split
    from edge_runtime.modelfile import read_bundle_manifest

    manifest = read_bundle_manifest(bundle)
    config = BenchConfig(
        bundle=bundle,
        data=data,
        split=Split(split) if split else None,
        keras=keras,
        out=out or Path("reports") / manifest.model_name,
        variants=tuple(Variant(variant) for variant in variants),
        limit=limit,
        invocations=invocations,
        threads=threads,
        timeout_s=timeout_s,
        overwrite=overwrite,
        command=shlex.join(["edge-bench", *sys.argv[1:]]),
    )
    report = run_bench(config)
    click.echo(render_table(report))
    for line in caveats(report):
        note(f"note: {line}")
    fastest = remember_fastest(report, manifest)
    if fastest:
        note(f"note: {fastest.value} is the fastest here; edge-run takes it by default on this machine from now on")
    click.echo(f"\nreport: {config.out / MARKDOWN_FILE}")
    return 0 if report.is_complete else 1


def main() -> NoReturn:
    """Entry point of the console script."""
    run_cli(cli)
