"""Command line of ``edge-bench``: run, reproduce, compare and overview."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from benchmarks.settings import Scenario, Settings
from edge_runtime import __version__
from edge_runtime.cli_support import note, require_extra, run_cli, say
from edge_runtime.contract import Variant

if TYPE_CHECKING:
    from benchmarks.plan import BenchConfig


_Command = TypeVar("_Command", bound=Callable[..., Any])
_FULL = Settings()
_QUICK = Settings(
    limit=150,
    scenarios=(Scenario.SINGLE_STREAM, Scenario.STAGES),
    sessions=1,
    rounds=6,
    min_duration_s=0.5,
    min_queries=30,
    starts=1,
    quick=True,
)

_power = click.option(
    "--power",
    metavar="READER",
    help="Power meter: hwmon, hwmon:CHANNEL, rapl, pmic, battery, 'command:PROGRAM ARGS' (prints watts, one per line) "
    "or none [default: the first one found].",
)


def _limit(name: str, unit: str, default: float, text: str) -> Callable[[_Command], _Command]:
    """Declare an option of ``compare`` for a limit of at least 0."""
    return click.option(name, metavar=unit, type=click.FloatRange(min=0), default=default, show_default=True, help=text)


def _count(name: str, text: str, metavar: str | None = None) -> Callable[[_Command], _Command]:
    """Declare an option for a count of at least 1."""
    return click.option(name, type=click.IntRange(min=1), metavar=metavar, help=text)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="edge-bench")
def cli() -> None:
    """Measure accuracy, latency, throughput, cold start, memory and size of exported models."""


@cli.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--data",
    metavar="SRC",
    help="Labelled images: a folder of class folders, a .zip or URL of one, a .csv that lists images, or smileys.",
)
@click.option(
    "--split",
    type=click.Choice(["train", "validation", "test"]),
    help="Part of the data [default: test, else validation].",
)
@click.option("--keras", metavar="RUN", type=click.Path(path_type=Path), help="Run directory to compare with.")
@click.option("--out", type=click.Path(path_type=Path), help="Report directory [default: reports/<model name>].")
@click.option(
    "--quick", is_flag=True, help="Run under a minute: few rounds, at most 150 images, no other scenarios than stages."
)
@click.option(
    "--variant",
    "variants",
    multiple=True,
    type=click.Choice([variant.value for variant in Variant]),
    help="Measure only this export; may be given several times.",
)
@_count("--limit", "Largest number of images, drawn with the seed.")
@click.option(
    "--scenario",
    "scenarios",
    multiple=True,
    type=click.Choice([scenario.value for scenario in Scenario if scenario is not Scenario.SINGLE_STREAM]),
    help="Measure only this beside single-stream; may be given several times [default: all].",
)
@_count("--sessions", f"Fresh processes of each model [default: {_FULL.sessions}].")
@_count("--rounds", f"Rounds in each session [default: {_FULL.rounds}].")
@click.option(
    "--min-duration",
    "min_duration_s",
    type=click.FloatRange(min=0.0, max=3600.0),
    metavar="S",
    help=f"Least single-stream time of each model in seconds [default: {_FULL.min_duration_s:g}].",
)
@_count("--min-queries", f"Least single-stream calls of each model [default: {_FULL.min_queries}].", "N")
@click.option("--threads", type=click.IntRange(1, 256), default=1, show_default=True, help="Threads in one inference.")
@click.option(
    "--sweep-threads",
    metavar="N,N,...",
    help="Thread counts to compare [default: 1, 2, 4 ... up to the number of cores].",
)
@_power
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Seed of the order and of the drawn images.",
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=1),
    default=_FULL.timeout_s,
    show_default=True,
    metavar="S",
    help="Seconds after which a measuring process that does not answer is stopped.",
)
@click.option("--overwrite", is_flag=True, help="Replace an existing report.")
def run(bundle: Path, data: str | None, keras: Path | None, out: Path | None, overwrite: bool, **choices: Any) -> int:
    """Measure every export of BUNDLE, and with --keras the model it came from, each in its own processes.

    The report recommends a variant with reasons: open report.html. Exit code: 0 all measured, 1 some exports or images
    could not be measured, 2 wrong usage, 3 data, 4 model, 5 runtime, 7 output.
    """
    _require(keras)
    from benchmarks.plan import BenchConfig
    from edge_runtime.model.bundle import read_bundle_manifest

    place = out or Path("reports") / read_bundle_manifest(bundle).model_name
    return _measure(BenchConfig(bundle, data, keras, place, overwrite, _command_line(), settings_of(**choices)))


@cli.command()
@click.argument("report", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Report directory of the new run.")
@click.option("--bundle", type=click.Path(path_type=Path), help="Bundle directory, if it was moved.")
@click.option("--data", metavar="SRC", help="Labelled images, if they were moved.")
@click.option("--keras", metavar="RUN", type=click.Path(path_type=Path), help="Run directory, if it was moved.")
@_power
@click.option("--overwrite", is_flag=True, help="Replace an existing report.")
def reproduce(report: Path, out: Path, **others: Any) -> int:
    """Repeat the run of REPORT with its settings, and list the differences in files, machine and software.

    Next: edge-bench compare REPORT NEW.
    """
    from benchmarks.records import read_report
    from benchmarks.reproduction import changed_files, config_of, differences, lost_settings

    then = read_report(report)
    config = config_of(then, out, command=_command_line(), **others)
    _require(config.keras)
    for line in (*lost_settings(then, config), *changed_files(then, config)):
        note(f"note: {line}")
    code = _measure(config)
    for line in differences(then, read_report(out)):
        note(f"note: {line}")
    return code


@cli.command()
@click.argument("report_a", metavar="REPORT_A")
@click.argument("report_b", metavar="REPORT_B")
@_limit("--max-drop", "PP", 1.0, "Largest allowed accuracy loss in percentage points.")
@_limit(
    "--max-slowdown",
    "PERCENT",
    10.0,
    "Largest allowed growth of latency and cold start, and the corresponding fall of throughput.",
)
@_limit("--max-growth", "PERCENT", 10.0, "Largest allowed growth of files, installation and peak memory.")
@click.option(
    "--reference",
    metavar="MODEL",
    default="keras-function",
    show_default=True,
    help="Divide latencies by those of this model if both reports have it, to cancel the speed of the machine.",
)
@click.option("--strict", is_flag=True, help="Exit with 9 if anything of REPORT_A was not compared.")
@click.option(
    "--format",
    "format_name",
    type=click.Choice(["table", "markdown", "json"]),
    default="table",
    show_default=True,
    help="Output format.",
)
@click.option(
    "--out", type=click.Path(path_type=Path), help="Also write compare.html, compare.md and compare.json here."
)
@click.option("--overwrite", is_flag=True, help="Replace an existing comparison.")
def compare(max_drop: float, max_slowdown: float, max_growth: float, out: Path | None, **others: Any) -> int:
    """Compare REPORT_B with the earlier REPORT_A; exit with 8 if it is certainly worse by more than allowed.

    A report is a directory of edge-bench run, or its report.json. Exit code 9: the reports cannot be compared, since
    one is marked invalid or they share no model.
    """
    from benchmarks.comparison.command import run_compare
    from benchmarks.comparison.record import Limits

    if out is not None:
        require_extra("edge-bench compare --out", "bench", "jinja2")
    limits = Limits(max_drop, max_slowdown / 100, max_growth / 100)
    text, code = run_compare(limits=limits, out=out, **others)
    say(text)
    return code


@cli.command()
@click.argument("folders", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("reports/index.html"),
    show_default=True,
    help="Page to write.",
)
@click.option("--overwrite", is_flag=True, help="Replace a file that is not an earlier overview.")
def overview(folders: tuple[Path, ...], out: Path, overwrite: bool) -> int:
    """List training runs, bundles and reports on one page, with accuracy, size, date and links.

    FOLDERS hold run directories, bundles or report directories [default: runs bundles reports]. Exit code: 0 all read,
    1 some could not be read, 3 nothing found, 7 output.
    """
    require_extra("edge-bench overview", "bench", "jinja2")
    from benchmarks.overview import write_overview

    found = write_overview(folders or tuple(map(Path, ("runs", "bundles", "reports"))), out, overwrite=overwrite)
    for folder, reason in found.broken:
        note(f"note: {folder}: {reason}")
    say(f"{found.summary()}\noverview: {out}")
    return 1 if found.broken else 0


def settings_of(*, quick: bool, scenarios: Sequence[str], sweep_threads: str | None, **choices: Any) -> Settings:
    """Make the settings of the options; an option that is not given keeps the value of ``--quick`` or the default."""
    from dataclasses import replace

    base = _QUICK if quick else _FULL
    given = {name: value for name, value in choices.items() if value is not None}
    if scenarios:
        given["scenarios"] = tuple(
            scenario for scenario in Scenario if scenario is Scenario.SINGLE_STREAM or scenario.value in scenarios
        )
    settings = replace(base, **given)
    return replace(settings, sweep_threads=_thread_counts(sweep_threads) if settings.wants(Scenario.THREADS) else ())


def _thread_counts(text: str | None) -> tuple[int, ...]:
    from edge_runtime.errors import UsageError
    from edge_runtime.platform.process import core_count

    if text is None:
        cores = core_count()
        return tuple(sorted({1, cores} | {2**power for power in range(cores.bit_length()) if 2**power <= cores}))
    parts = text.split(",")
    if not all(part.strip().isdecimal() and 1 <= int(part) <= 256 for part in parts):
        raise UsageError(f"--sweep-threads: expected counts from 1 to 256 such as 1,2,4, got {text!r}")
    return tuple(sorted({int(part) for part in parts}))


def _require(keras: Path | None) -> None:
    require_extra("edge-bench run", "bench", "matplotlib", "jinja2")
    if keras is not None:
        require_extra("edge-bench run --keras", "train", "tensorflow", "keras")


def _measure(config: BenchConfig) -> int:
    from benchmarks.bench import remember_measured, run_bench
    from benchmarks.records import PAGE_FILE
    from benchmarks.report.facts import caveats
    from benchmarks.report.files import render_table
    from edge_runtime.model.bundle import read_bundle_manifest

    report = run_bench(config)
    say(render_table(report))
    for line in caveats(report):
        note(f"note: {line}")
    say(f"\n{report.verdict.text}")
    fastest = remember_measured(report, read_bundle_manifest(config.bundle))
    if fastest:
        note(f"note: {fastest.value} has the least p50 here; edge-run takes it by default on this machine from now on")
    say(f"\nreport: {config.out / PAGE_FILE}")
    return 0 if report.is_complete else 1


def _command_line() -> str:
    return shlex.join(["edge-bench", *sys.argv[1:]])


def main() -> NoReturn:
    """Run the console script."""
    run_cli(cli)
