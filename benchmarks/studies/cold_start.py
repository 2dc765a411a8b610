"""Cold start of ``edge-run classify`` with one photo, beside a minimal script.

    python -m benchmarks.studies.cold_start MODEL.tflite PHOTO [--runs 21] [-- OPTIONS OF EDGE-RUN]

Whole processes in turn (A B C A B C ...): ``edge-run classify``, the script ``bare_script.py`` beside this file and
``edge-run --help``, after one round that does not count. Required: at most 1.5 times the wall time of the script, under
95 MB, and 0.25 s for ``--help``.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

from benchmarks.studies.common import installed_program, run_whole, with_middle_half
from edge_runtime.workstation.reporting.wording import markdown_table

_HEADER = ("", "wall", "processor", "peak memory", "wall, times the bare script")


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description="Measure the cold start of edge-run classify beside a bare script.")
    parser.add_argument("model", help="a .tflite file")
    parser.add_argument("photo", help="an image file")
    parser.add_argument("--runs", type=int, default=21, help="number of rounds")
    parser.epilog = "Arguments after -- go to edge-run classify, such as -- --labels FILE --crop center."
    split = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    arguments, options = parser.parse_args(sys.argv[1:split]), sys.argv[split + 1 :]
    edge_run, script = installed_program("edge-run"), str(Path(__file__).with_name("bare_script.py"))
    commands = {
        "edge-run classify": [edge_run, "classify", arguments.model, arguments.photo, *options],
        "bare script": [sys.executable, script, arguments.model, arguments.photo],
        "edge-run --help": [edge_run, "--help"],
    }
    rounds = [{name: run_whole(command) for name, command in commands.items()} for _ in range(arguments.runs + 1)][1:]
    rows = []
    for name in commands:
        runs = [one[name] for one in rounds]
        fields = ("wall_ns", "cpu_ns", "peak_bytes")
        wall_ns, cpu_ns, peak = (statistics.median(getattr(run, field) for run in runs) for field in fields)
        ratio = with_middle_half((one[name].wall_ns / one["bare script"].wall_ns for one in rounds), 2)
        rows.append((name, f"{wall_ns / 1e9:.3f} s", f"{cpu_ns / 1e9:.3f} s", f"{peak / 1e6:.1f} MB", ratio))
    print(markdown_table(_HEADER, rows))


if __name__ == "__main__":
    main()
