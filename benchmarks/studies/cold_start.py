"""How long ``edge-run classify`` of one photo takes from a cold start, beside a script that does the least.

    python -m benchmarks.studies.cold_start MODEL.tflite PHOTO [--runs 21] [-- OPTIONS OF EDGE-RUN]

Whole processes in turn (A B C A B C ...): ``edge-run classify``, the script ``bare_script.py`` beside this file and
``edge-run --help``, after one round that does not count. Needed: at most 1.5 times the wall time of the script, under
95 MB, and 0.25 s for ``--help``.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Run:
    """One process: seconds by the clock, seconds of processors, and its largest resident memory in MB (1e6 bytes)."""

    wall_s: float
    cpu_s: float
    peak_mb: float


def as_installed() -> dict[str, str]:
    """The environment without PYTHONDONTWRITEBYTECODE.

    pip compiles what it installs. A checkout in which nothing may be compiled would compile edge-run at every start.
    """
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def run_once(command: Sequence[str]) -> Run:
    """Run a command to its end."""
    started_s = time.perf_counter()
    process = subprocess.Popen(command, env=as_installed(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall_s = time.perf_counter() - started_s
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"exit code {process.returncode}: {' '.join(command)}")
    return Run(wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e6)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description="The cold start of edge-run classify beside a bare script.")
    parser.add_argument("model", help="a .tflite file")
    parser.add_argument("photo")
    parser.add_argument("--runs", type=int, default=21)
    parser.epilog = "What follows -- goes to edge-run classify, such as -- --labels FILE --crop center."
    split = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    asked, options = parser.parse_args(sys.argv[1:split]), sys.argv[split + 1 :]
    edge_run = str(Path(sys.executable).with_name("edge-run"))
    commands = {
        "edge-run classify": [edge_run, "classify", asked.model, asked.photo, *options],
        "bare script": [sys.executable, str(Path(__file__).with_name("bare_script.py")), asked.model, asked.photo],
        "edge-run --help": [edge_run, "--help"],
    }
    rounds = [{name: run_once(command) for name, command in commands.items()} for _ in range(asked.runs + 1)][1:]
    print("| | wall | processor | peak memory | wall, times the bare script |\n| --- | ---: | ---: | ---: | ---: |")
    for name in commands:
        runs = [one[name] for one in rounds]
        wall, cpu, peak = (statistics.median(getattr(run, field) for run in runs) for field in Run.__annotations__)
        ratios = sorted(one[name].wall_s / one["bare script"].wall_s for one in rounds)
        quarter = len(ratios) // 4
        ratio = f"{statistics.median(ratios):.2f} ({ratios[quarter]:.2f} to {ratios[-1 - quarter]:.2f})"
        print(f"| {name} | {wall:.3f} s | {cpu:.3f} s | {peak:.1f} MB | {ratio} |")


if __name__ == "__main__":
    main()
