"""``edge-bench compare``: what became better or worse between two reports."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("report_a", metavar="REPORT_A")
@click.argument("report_b", metavar="REPORT_B")
@click.option(
    "--max-drop",
    "max_drop_points",
    metavar="PP",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    help="Accuracy may fall by so many percentage points.",
)
@click.option(
    "--max-slowdown",
    "max_slowdown_percent",
    metavar="PERCENT",
    type=click.FloatRange(min=0),
    default=10.0,
    show_default=True,
    help="Latency and cold start may grow by so much, and throughput fall accordingly.",
)
@click.option(
    "--max-growth",
    "max_growth_percent",
    metavar="PERCENT",
    type=click.FloatRange(min=0),
    default=10.0,
    show_default=True,
    help="Files, installation and peak memory may grow by so much.",
)
@click.option(
    "--reference",
    metavar="MODEL",
    default="keras-function",
    show_default=True,
    help="Latencies are divided by those of this model where both reports have it: it shows how fast the machine was.",
)
@click.option("--strict", is_flag=True, help="Exit with 9 where anything of REPORT_A was not compared.")
@click.option(
    "--format",
    "format_name",
    type=click.Choice(["table", "markdown", "json"]),
    default="table",
    show_default=True,
    help="What is printed.",
)
@click.option(
    "--out", type=click.Path(path_type=Path), help="Also write compare.html, compare.md and compare.json here."
)
@click.option("--overwrite", is_flag=True, help="Replace an existing comparison.")
def compare(
    report_a: str,
    report_b: str,
    max_drop_points: float,
    max_slowdown_percent: float,
    max_growth_percent: float,
    reference: str,
    strict: bool,
    format_name: str,
    out: Path | None,
    overwrite: bool,
) -> int:
    """Compare REPORT_B with REPORT_A, the one before; exit with 8 if it is surely worse by more than allowed.

    A report is a directory of edge-bench run, a report.json, or reference:BOARD/MODEL, which comes with edgekit. Exit
    code 9: the reports cannot be compared, since one is marked invalid or they share no model.
    """
    from benchmarks.comparison.command import CompareConfig, Format, run_compare
    from benchmarks.comparison.record import Limits
    from edge_runtime.cli_support import require_extra

    if out is not None:
        require_extra("edge-bench compare --out", "bench", "jinja2")
    limits = Limits(max_drop_points, max_slowdown_percent / 100, max_growth_percent / 100)
    config = CompareConfig(
        before=report_a,
        after=report_b,
        limits=limits,
        reference=reference,
        strict=strict,
        format=Format(format_name),
        out=out,
        overwrite=overwrite,
    )
    text, code = run_compare(config)
    click.echo(text)
    return code
