"""Render ``conversion.md``, the report for a terminal, pull request or diff."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from convert.record import CalibrationRecord, ConversionRecord, VariantRecord
from convert.report import wording
from convert.report.wording import explanation, recommendation
from edge_runtime.workstation.reporting.wording import (
    escape_markdown,
    markdown_list,
    markdown_table,
    megabytes,
    milliseconds,
    p_value,
    percent,
    percent_range,
)

REPORT_FILE = "conversion.md"
_MAX_PAIRS = 5
_MAX_LABELS = 20
_HEADER = (
    "variant",
    "size",
    "accuracy (95 % interval)",
    "change, points (95 % interval)",
    "agreement",
    "McNemar p",
    "calibration error",
    "latency here",
    "lowest runtime",
    "verdict",
)


def render(record: ConversionRecord) -> str:
    """The whole of ``conversion.md``."""
    sections = [
        f"# Conversion of {escape_markdown(record.model_name)}",
        escape_markdown(recommendation(record)),
        *([markdown_table(_HEADER, map(_row, record.variants))] if record.variants else []),
        escape_markdown(explanation(record)),
        *_list("Not in the bundle", [f"{_name(entry)}: {wording.failure(entry)}" for entry in record.failed]),
        *_list("Could not be exported or opened", [f"{entry.variant}: {entry.reason}" for entry in record.left_out]),
        *(section for variant in record.variants for section in _steps(variant)),
        *_list("Changed answers, most frequent first", filter(None, map(_pairs, record.variants))),
        *(_calibration(record.calibration) if record.calibration else []),
        *_list("Notes", [f"{_name(entry)}: {note}" for entry in record.variants for note in entry.notes]),
        *_made_with(record),
    ]
    return "\n\n".join(sections) + "\n"


def _row(variant: VariantRecord) -> Sequence[str]:
    comparison = variant.comparison
    check = comparison.check
    return (
        _name(variant),
        megabytes(variant.artifact.bytes),
        f"{percent(check.accuracy, 2)} ({percent_range(*comparison.accuracy_interval)})",
        f"{wording.change(comparison)} ({wording.change_range(comparison)})",
        percent(check.agreement, 2),
        p_value(comparison.mcnemar_p),
        percent(comparison.calibration_error, 2),
        milliseconds(variant.latency_ms),
        escape_markdown(wording.runtimes(variant)),
        "passed" if check.passed else "**FAILED**",
    )


def _steps(variant: VariantRecord) -> list[str]:
    if not variant.steps:
        return []
    rows = [
        (
            escape_markdown(step.description),
            percent(step.accuracy, 2),
            percent(step.agreement, 2),
            megabytes(step.bytes),
            milliseconds(step.latency_ms),
            "passed" if step.passed else "failed",
        )
        for step in variant.steps
    ]
    header = ("step", "accuracy", "agreement", "size", "latency here", "gate")
    return [f"## The way to {_name(variant)}", markdown_table(header, rows)]


def _pairs(variant: VariantRecord) -> str:
    pairs = variant.comparison.flip_pairs
    shown = ", ".join(f"{pair.keras} → {pair.artifact} {pair.count}" for pair in pairs[:_MAX_PAIRS])
    more = f" and {len(pairs) - _MAX_PAIRS} more pairs" if len(pairs) > _MAX_PAIRS else ""
    return f"{_name(variant)}: {shown}{more}" if pairs else ""


def _calibration(calibration: CalibrationRecord) -> list[str]:
    classes = ", ".join(f"{label} {count}" for label, count in list(calibration.per_class.items())[:_MAX_LABELS])
    more = " …" if len(calibration.per_class) > _MAX_LABELS else ""
    text = (
        f"{calibration.images} images ({classes}{more}), of which {calibration.shared} also checked, method "
        f"{calibration.method}, seed "
        f"{calibration.seed}, SHA-256 of their list {calibration.sha256}."
    )
    rows = [
        (str(point.images), percent(point.accuracy, 2), percent(point.agreement, 2)) for point in calibration.points
    ]
    return [
        "## Calibration",
        escape_markdown(text),
        *([markdown_table(("images", "accuracy of int8", "agreement"), rows)] if rows else []),
    ]


def _made_with(record: ConversionRecord) -> list[str]:
    settings = ", ".join(f"{name} {value}" for name, value in record.settings.items())
    versions = ", ".join(f"{name} {version}" for name, version in record.versions.items())
    lines = [f"From: {record.origin}", f"Machine: {record.machine}", f"Settings: {settings}", f"Versions: {versions}"]
    return ["## Made with", markdown_list([*lines, f"Took {record.seconds:.0f} s"])]


def _list(heading: str, items: Iterable[str]) -> list[str]:
    lines = list(items)
    return [f"## {heading}", markdown_list(lines)] if lines else []


def _name(variant: VariantRecord) -> str:
    return variant.artifact.variant.value
