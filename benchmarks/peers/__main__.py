"""Command line: ``python -m benchmarks.peers``, or ``make bench-peers``."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import click

from edge_runtime.cli_support import run_cli

_CHECKOUT = Path(__file__).resolve().parents[2]
_IMAGES, _ROUNDS = 200, 5
_QUICK_IMAGES, _QUICK_ROUNDS = 40, 3
_TIMEOUT_S = 600.0
# Results of make bench on the built-in set.
_DEMO, _DEMO_RUN = Path("bundles/smileys"), Path("runs/smileys")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--bundle",
    type=click.Path(path_type=Path),
    default=_DEMO,
    show_default=True,
    help="Bundle whose float32, int8, onnx-float32 and onnx-int8 are run.",
)
@click.option(
    "--keras",
    metavar="RUN",
    type=click.Path(path_type=Path),
    help="Run directory that the bundle was made from [default: runs/smileys for bundles/smileys].",
)
@click.option("--data", metavar="SRC", help="Labelled images [default: the test split of RUN].")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("reports/peers"),
    show_default=True,
    help="Folder for peers.md and peers.json.",
)
@click.option("--pictures", type=click.IntRange(min=1), help=f"Largest number of images [default: {_IMAGES}].")
@click.option("--rounds", type=click.IntRange(min=1), help=f"Fresh processes of each tool [default: {_ROUNDS}].")
@click.option("--threads", type=click.IntRange(1, 256), default=1, show_default=True, help="Threads in one inference.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed for order and images.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=1),
    default=_TIMEOUT_S,
    show_default=True,
    help="Seconds after which a process is killed.",
)
@click.option(
    "--environments",
    type=click.Path(path_type=Path),
    default=_CHECKOUT,
    help="Folder of the virtual environments .venv-mediapipe and so on [default: the checkout].",
)
@click.option("--quick", is_flag=True, help=f"Use {_QUICK_IMAGES} images and {_QUICK_ROUNDS} rounds.")
@click.option("--overwrite", is_flag=True, help="Replace existing files.")
def cli(
    bundle: Path,
    keras: Path | None,
    data: str | None,
    out: Path,
    pictures: int | None,
    rounds: int | None,
    threads: int,
    seed: int,
    timeout_s: float,
    environments: Path,
    quick: bool,
    overwrite: bool,
) -> None:
    """Measure edgekit beside MediaPipe, plain LiteRT and ONNX Runtime loops, Keras and Ultralytics."""
    from benchmarks.peers.comparison import compare
    from benchmarks.peers.plan import PeersConfig, Places
    from benchmarks.peers.report import free_files, publish, render

    files = free_files(out, "peers", overwrite=overwrite)
    config = PeersConfig(
        bundle=bundle,
        keras=_DEMO_RUN if keras is None and bundle == _DEMO else keras,
        data=data,
        pictures=pictures or (_QUICK_IMAGES if quick else _IMAGES),
        rounds=rounds or (_QUICK_ROUNDS if quick else _ROUNDS),
        threads=threads,
        seed=seed,
        timeout_s=timeout_s,
        places=Places(environments),
        command=shlex.join(["python", "-m", "benchmarks.peers", *sys.argv[1:]]),
    )
    report = compare(config)
    publish(files, report, render(report), overwrite=overwrite)


if __name__ == "__main__":
    run_cli(cli)
