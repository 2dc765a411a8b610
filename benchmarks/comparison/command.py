"""``edge-bench compare``: read and check two reports, compare them, print and write the comparison."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TextIO

from benchmarks.comparison.difference import compare_reports
from benchmarks.comparison.record import Comparison, Limits
from benchmarks.comparison.render import render_markdown, render_page, render_text
from benchmarks.plan import KERAS_FUNCTION
from benchmarks.records import ANSWERS_FILE, REPORT_FILE, Answers, Performance, Report, check_file, read_report
from edge_runtime.errors import ComparisonError, DataError, GateError, shorten
from edge_runtime.platform.atomic import atomic_directory, check_free
from edge_runtime.strict import to_mapping
from edge_runtime.text import csv_plain
from edge_runtime.workstation.datasets.samples import MAX_IMAGES

COMPARISON_FILE, MARKDOWN_FILE, PAGE_FILE = "compare.json", "compare.md", "compare.html"
_MAX_ANSWERS_BYTES = 512 << 20
_MAX_BURSTS = 2_000
_MAX_COLUMNS = 64
_SHA256 = re.compile("[0-9a-f]{64}")


_RENDERERS = {"table": render_text, "markdown": render_markdown, "json": Comparison.to_json}


def run_compare(
    report_a: str,
    report_b: str,
    *,
    limits: Limits | None = None,
    reference: str = KERAS_FUNCTION,
    strict: bool = False,
    format_name: str = "table",
    out: Path | None = None,
    overwrite: bool = False,
) -> tuple[str, int]:
    """Compare two reports, each a report directory or its ``report.json``.

    Args:
        report_a: Path of the first report.
        report_b: Path of the second report, judged against the first.
        limits: Largest changes for the worse that pass; None for the defaults.
        reference: Model that shows the speed of the machine.
        strict: True if it is an error where anything of the first report was not compared.
        format_name: Format of the printed comparison: ``table``, ``markdown`` or ``json``.
        out: Directory for ``compare.json``, ``compare.md`` and ``compare.html``, or None.
        overwrite: True to replace an existing directory.

    Returns:
        The text to print, and the exit code: 0, or that of `GateError` where something is significantly worse by more
        than the limits allow, or that of `ComparisonError` where ``strict`` is set and not everything was compared.

    Raises:
        EdgeKitError: A report cannot be read, is marked invalid, or the directory cannot be written.
    """
    if out is not None:
        check_free(out, overwrite=overwrite, marker=COMPARISON_FILE)
    (before, answers_before), (after, answers_after) = load_report(Path(report_a)), load_report(Path(report_b))
    names = report_a, report_b
    comparison = compare_reports(
        before, after, answers_before, answers_after, limits or Limits(), names=names, reference=reference
    )
    if out is not None:
        texts = {
            COMPARISON_FILE: comparison.to_json(),
            MARKDOWN_FILE: render_markdown(comparison),
            PAGE_FILE: render_page(comparison),
        }
        with atomic_directory(out, marker=COMPARISON_FILE, overwrite=overwrite) as folder:
            for name, text in texts.items():
                (folder / name).write_text(text, encoding="utf-8", errors="replace")
    code = 0
    if comparison.regressions:
        code = GateError.exit_code
    elif strict and not comparison.is_whole:
        code = ComparisonError.exit_code
    return _RENDERERS[format_name](comparison).rstrip("\n"), code


def load_report(path: Path) -> tuple[Report, Answers | None]:
    """Read a report directory or ``report.json``; neither is trusted.

    Returns:
        The report, and the answers beside it or None.

    Raises:
        DataError: The file is no report, too large, or has figures that no run can have.
        ManifestError: A field is unknown, missing or of the wrong type.
    """
    file = path / REPORT_FILE if path.is_dir() else path
    report = read_report(file)
    _check_figures(report, str(file))
    answers = file.parent / ANSWERS_FILE
    # Answers beside a report file that was copied alone may belong to another report.
    is_report_directory = file.name == REPORT_FILE
    return report, read_answers(answers, report) if is_report_directory and answers.exists() else None


def _check_figures(report: Report, where: str) -> None:
    """Raise DataError for figures that no run can have and a comparison could not compute with."""
    _check_finite(to_mapping(report), where)
    names = [subject.name for subject in report.subjects]
    if len(set(names)) != len(names):
        raise DataError(f"{where}: expected each model once, got {shorten(', '.join(names))}")
    for subject in report.subjects:
        problem = None if subject.performance is None else _impossible(subject.performance)
        if problem or subject.bytes < 0:
            raise DataError(
                f"{where}: {shorten(subject.name)}: expected figures that a run can have, got "
                f"{problem or f'a file of {subject.bytes} bytes'}; measure again"
            )


def _check_finite(value: object, where: str) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise DataError(f"{where}: expected a finite number, got {value}")
    if isinstance(value, Mapping):
        for key, item in value.items():
            _check_finite(item, f"{where}: {key}")
    elif isinstance(value, list):
        for item in value:
            _check_finite(item, where)


def _impossible(performance: Performance) -> str | None:
    """Describe the first figure that no run can have measured, or give None."""
    for name, value in _positive(performance):
        if value is not None and value <= 0:
            return f"{name} of {value}"
    for share in filter(None, (performance.accuracy.top1, performance.accuracy.top5)):
        if not 0 <= share.hits <= share.total or share.total < 1:
            return f"{share.hits} right answers of {share.total}"
    bursts = performance.single_stream.burst_p50_ms
    if not 0 < len(bursts) <= _MAX_BURSTS:
        return f"{len(bursts)} rounds"
    if not performance.cold_start.samples_ms:
        return "no cold start"
    interval = performance.offline.interval_images_per_s if performance.offline else None
    return "an interval that ends before it begins" if interval and interval.high < interval.low else None


def _positive(performance: Performance) -> Iterator[tuple[str, float | None]]:
    stream, start, resources = performance.single_stream, performance.cold_start, performance.resources
    yield "p50", stream.latency.p50_ms
    yield from (("median of a round", value) for value in stream.burst_p50_ms)
    yield from (("cold start", value) for value in (start.median_ms, *start.samples_ms))
    yield "throughput", performance.offline.images_per_s if performance.offline else None
    yield "peak memory", resources.peak_memory_bytes
    yield "install size", resources.install_bytes


def read_answers(path: Path, report: Report) -> Answers:
    """Read ``answers.csv``: columns ``file``, ``label``, optionally ``sha256``, and one for each measured subject.

    Raises:
        DataError: The file is missing, too large, or no such table.
    """
    check_file(path, _MAX_ANSWERS_BYTES, "answers of edge-bench run")
    try:
        # File names may be bytes that are no text.
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            return _parse_answers(file, path, [subject.name for subject in report.subjects if subject.performance])
    except OSError as error:
        raise DataError(f"{path}: expected answers of edge-bench run ({error.strerror})") from error


def _parse_answers(file: TextIO, path: Path, subjects: Sequence[str]) -> Answers:
    reader = csv.reader(file)
    try:
        header = next(reader, [])
        if len(header) > _MAX_COLUMNS or len(set(header)) != len(header) or not {"file", "label"} <= set(header):
            found = shorten(", ".join(header)) or "nothing"
            raise DataError(f"{path}: expected the columns file, label and one for each model, got {found}")
        columns: dict[str, list[str]] = {name: [] for name in header if name in {"file", "label", "sha256", *subjects}}
        chosen = [(header.index(name), values) for name, values in columns.items()]
        for count, row in enumerate(reader, 1):
            if count > MAX_IMAGES or len(row) != len(header):
                raise DataError(
                    f"{path}: line {reader.line_num}: expected at most {MAX_IMAGES:,} lines of {len(header)} fields, "
                    f"got line {count:,} with {len(row)}"
                )
            for index, values in chosen:
                values.append(csv_plain(row[index]))
    except csv.Error as error:
        raise DataError(f"{path}: line {reader.line_num}: expected comma-separated values ({error})") from error
    files, truth, hashes = columns.pop("file"), columns.pop("label"), columns.pop("sha256", None)
    if hashes is not None and not all(_SHA256.fullmatch(value) for value in hashes):
        raise DataError(
            f"{path}: expected SHA-256 of 64 lower-case hex digits in the column sha256, got something else"
        )
    if not files:
        raise DataError(f"{path}: expected a line for each image, got none")
    return Answers(tuple(files), tuple(truth), columns, None if hashes is None else tuple(hashes))
