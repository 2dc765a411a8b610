"""Render ``conversion.md``, the report for a terminal, pull request or diff."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

from convert.record import CalibrationRecord, ConversionRecord, VariantRecord
from convert.report import wording
from convert.report.wording import explanation, recommendation

REPORT_FILE = "conversion.md"
_SPECIALS = re.compile(r"([\\`*_\[\]|])")
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
        f"# Conversion of {escape(record.model_name)}",
        escape(recommendation(record)),
        *([_table(_HEADER, map(_row, record.variants))] if record.variants else []),
        escape(explanation(record)),
        *_list("Not in the bundle", [f"{_name(entry)}: {wording.failure(entry)}" for entry in record.failed]),
        *_list("Could not be exported or opened", [f"{entry.variant}: {entry.reason}" for entry in record.left_out]),
        *(section for variant in record.variants for section in _steps(variant)),
        *_list("Changed answers, most frequent first", filter(None, map(_pairs, record.variants))),
        *(_calibration(record.calibration) if record.calibration else []),
        *_list("Notes", [f"{_name(entry)}: {note}" for entry in record.variants for note in entry.notes]),
        *_made_with(record),
    ]
    return "\n\n".join(sections) + "\n"


def escape(text: str) -> str:
    """Text from outside as plain Markdown: one line, no markup, no HTML."""
    return _SPECIALS.sub(r"\\\1", html.escape(wording.one_line(text), quote=False))


def _row(variant: VariantRecord) -> Sequence[str]:
    comparison = variant.comparison
    check = comparison.check
    return (
        _name(variant),
        wording.size(variant.artifact.bytes),
        f"{wording.percent(check.accuracy)} ({wording.percent_range(comparison.accuracy_interval)})",
        f"{wording.change(comparison)} ({wording.change_range(comparison)})",
        wording.percent(check.agreement),
        wording.p_value(comparison.mcnemar_p),
        wording.percent(comparison.calibration_error),
        wording.latency(variant.latency_ms),
        escape(wording.runtimes(variant)),
        "passed" if check.passed else "**FAILED**",
    )


def _steps(variant: VariantRecord) -> list[str]:
    if not variant.steps:
        return []
    rows = [
        (
            escape(step.description),
            wording.percent(step.accuracy),
            wording.percent(step.agreement),
            wording.size(step.bytes),
            wording.latency(step.latency_ms),
            "passed" if step.passed else "failed",
        )
        for step in variant.steps
    ]
    header = ("step", "accuracy", "agreement", "size", "latency here", "gate")
    return [f"## The way to {_name(variant)}", _table(header, rows)]


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
        (str(point.images), wording.percent(point.accuracy), wording.percent(point.agreement))
        for point in calibration.points
    ]
    return [
        "## Calibration",
        escape(text),
        *([_table(("pictures", "accuracy of int8", "agreement"), rows)] if rows else []),
    ]


def _made_with(record: ConversionRecord) -> list[str]:
    settings = ", ".join(f"{name} {value}" for name, value in record.settings.items())
    versions = ", ".join(f"{name} {version}" for name, version in record.versions.items())
    lines = [f"From: {record.origin}", f"Machine: {record.machine}", f"Settings: {settings}", f"Versions: {versions}"]
    return ["## Made with", _bullets([*lines, f"Took {record.seconds:.0f} s"])]


def _list(heading: str, items: Iterable[str]) -> list[str]:
    lines = list(items)
    return [f"## {heading}", _bullets(lines)] if lines else []


def _bullets(items: Iterable[str]) -> str:
    return "\n".join(f"- {escape(item)}" for item in items)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _name(variant: VariantRecord) -> str:
    return variant.artifact.variant.value
