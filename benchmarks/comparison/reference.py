"""``edge-bench reference``: a report that may stand beside edgekit as the reference of a board."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from benchmarks.comparison.anonymous import traces, without_paths
from benchmarks.comparison.files import load_report
from benchmarks.records.report import Report
from benchmarks.statistics import is_noisy
from edge_runtime.atomic import write_atomic
from edge_runtime.errors import UsageError
from edge_runtime.labels import shorten

_LONGEST_PART = 60

_NO_DISTRIBUTION = re.compile(r"\(.*?\)|gnu/linux", re.IGNORECASE)


def write_reference(report_path: Path, out: Path, *, board: str | None = None, overwrite: bool = False) -> Path:
    """Write the report of a report directory as ``<board>-<cpu>-<os>/<model>.json``, without paths.

    Args:
        report_path: A report directory, or a ``report.json``.
        out: Folder of reference reports.
        board: Name of the board; None takes what the machine says of itself.
        overwrite: Whether an older one is replaced.

    Returns:
        The file.

    Raises:
        UsageError: The report is no fit reference, or still tells of paths.
        EdgeKitError: It cannot be read, or the file not be written.
    """
    report = load_report(report_path).report
    reasons = tuple(unfit(report))
    if reasons:
        raise UsageError(f"{report_path}: expected a report that can be a reference, got one of which {reasons[0]}")
    bare = without_paths(report)
    left = traces(bare)
    if left:
        raise UsageError(
            f"{report_path}: expected a report without paths and addresses once they were cut to names, got {left[0]}; "
            "measure again with files in folders of plain names"
        )
    path = out / f"{reference_name(bare, board)}.json"
    write_atomic(path, bare.to_json().encode("utf-8", "replace"), overwrite=overwrite)
    return path


def unfit(report: Report) -> Iterable[str]:
    """Why a report cannot be a reference, as the rest of a sentence each with what to do; nothing where it can."""
    if report.invalid:
        yield f"the latencies are marked invalid ({shorten(report.invalid[0].rstrip('.'))}); measure again"
    if report.board.before.throttling or report.board.after.throttling:
        states = ", ".join(dict.fromkeys([*report.board.before.throttling, *report.board.after.throttling]))
        yield f"the board throttled ({states}); cool it, give it enough power, and measure again"
    if report.machine.git_dirty:
        yield "the checkout held altered files, so nobody else can run the same; commit them and measure again"
    if report.settings.quick:
        yield "the measuring was --quick; measure again without"
    performances = [(subject.name, subject.performance) for subject in report.subjects]
    noisy = [
        name
        for name, performance in performances
        if performance and performance.single_stream.speedup and is_noisy(performance.single_stream.speedup)
    ]
    if noisy:
        yield (
            f"the speed-up of {', '.join(noisy)} may differ by more than 5 % in another run; "
            "measure again on a quiet machine, or with more --rounds"
        )
    if not any(performance and performance.single_stream.speedup for _, performance in performances):
        yield (
            "no artefact has a speed-up against Keras, which later reports need to tell a slow day from a slow model; "
            "measure again with --keras"
        )


def reference_name(report: Report, board: str | None = None) -> str:
    """``<board>-<cpu>-<os>/<model>`` of lower-case letters, digits and dashes, such as ``pc-amd-epyc-debian-12/pets``.

    A board that names itself (a device tree does) is the board, and its architecture stands for the processor.
    """
    machine = report.machine
    is_pc = machine.architecture in ("x86_64", "i686", "AMD64")
    own = ("vm" if machine.virtualised else "pc") if is_pc else machine.cpu_model
    processor = machine.cpu_model if is_pc else machine.architecture
    system = _NO_DISTRIBUTION.sub(" ", machine.os_name or machine.kernel)
    return f"{slug(board or own)}-{slug(processor)}-{slug(system)}/{slug(report.model_name)}"


def slug(text: str) -> str:
    """Lower-case letters, digits and single dashes."""
    return re.sub("[^a-z0-9]+", "-", text.lower()).strip("-")[:_LONGEST_PART].strip("-") or "unknown"
