"""Write a report directory: JSON, Markdown, page, latencies and answers."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.records import ANSWERS_FILE, LATENCIES_FILE, MARKDOWN_FILE, PAGE_FILE, REPORT_FILE, Report
from edge_runtime.contract import InputSpec

LATENCY_COLUMNS = ("subject", "round", "call", "latency_ms")
ANSWER_COLUMNS = ("file", "label")


@dataclass(frozen=True)
class RawAnswers:
    """What every model answered.

    Attributes:
        files: The images, as the report names them.
        truth: True label of each.
        by_subject: Answered label of each, by subject.
    """

    files: tuple[str, ...]
    truth: tuple[str, ...]
    by_subject: Mapping[str, Sequence[str]]


def write_report(
    folder: Path,
    report: Report,
    latencies_ms: Mapping[str, Sequence[Sequence[float]]],
    answers: RawAnswers,
    spec: InputSpec | None = None,
) -> None:
    """Write everything that a report directory holds.

    Args:
        folder: An empty directory.
        report: The report.
        latencies_ms: Of each subject every timed single-stream call, round by round.
        answers: Every answer.
        spec: Geometry of the model, with which images of bare bytes can be shown too.
    """
    from benchmarks.report.markdown import render_markdown
    from benchmarks.report.page import read_tiles, render_page

    texts = {
        REPORT_FILE: report.to_json(),
        MARKDOWN_FILE: render_markdown(report),
        PAGE_FILE: render_page(report, latencies_ms, read_tiles(report, spec)),
    }
    for name, text in texts.items():
        # File names of Linux may be bytes that are no text; JSON and CSV give them back as they were.
        (folder / name).write_text(text, encoding="utf-8", errors="surrogateescape")
    write_latencies(folder / LATENCIES_FILE, latencies_ms)
    write_answers(folder / ANSWERS_FILE, answers)


def write_latencies(path: Path, latencies_ms: Mapping[str, Sequence[Sequence[float]]]) -> None:
    """One row a timed call; rounds and calls count from 0, and one round is the same moment for all subjects."""
    rows = (
        (subject, number, call, f"{latency_ms:.6f}")
        for subject, bursts in latencies_ms.items()
        for number, burst in enumerate(bursts)
        for call, latency_ms in enumerate(burst)
    )
    _write_csv(path, LATENCY_COLUMNS, rows)


def write_answers(path: Path, answers: RawAnswers) -> None:
    """One row an image, one column a subject.

    Everything but numbers is quoted and nothing is altered: a name such as ``=1.jpg`` must stay the name of a file, so
    these are to be read by programs, or imported as text.
    """
    rows = zip(answers.files, answers.truth, *answers.by_subject.values(), strict=True)
    _write_csv(path, (*ANSWER_COLUMNS, *answers.by_subject), rows)


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        writer.writerow(columns)
        writer.writerows(rows)
