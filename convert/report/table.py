"""The table that a conversion prints at its end."""

from __future__ import annotations

import textwrap

from convert.check.record import ConversionRecord, VariantRecord
from convert.report import wording
from edge_runtime.sinks.text import columns, fit, pad

WIDTH = 120
_HEADER = ("variant", "size", "accuracy", "change (95 % interval)", "agreement", "latency", "lowest runtime", "verdict")
_NUMBERS = range(1, 6)
_RUNTIME = _HEADER.index("lowest runtime")
_GAP = "  "


def text_table(record: ConversionRecord) -> str:
    """The table with aligned columns, then what a reader must know; no line is wider than `WIDTH` columns."""
    rows = [_HEADER, *(_row(variant) for variant in record.variants)]
    rows += [(wording.one_line(left_out.variant), *[wording.ABSENT] * 6, "LEFT OUT") for left_out in record.left_out]
    widths = [max(columns(row[column]) for row in rows) for column in range(len(_HEADER))]
    others = sum(widths) - widths[_RUNTIME] + len(_GAP) * (len(widths) - 1)
    widths[_RUNTIME] = max(len(_HEADER[_RUNTIME]), min(widths[_RUNTIME], WIDTH - others))
    lines = [_line(row, widths) for row in rows]
    return "\n".join([*lines, "", *_wrapped(explanation(record)), *_reasons(record)])


def explanation(record: ConversionRecord) -> str:
    """Two sentences: what was measured, and what Keras itself gives."""
    if not record.variants:
        return "Nothing could be measured."
    comparison = record.variants[0].comparison
    keras = wording.percent(comparison.check.keras_accuracy)
    return (
        f"Checked on {record.check_images} pictures ({wording.one_line(record.split)}{_shared(record)}) in a process "
        f"without TensorFlow. Keras itself: {keras} ({wording.percent_range(comparison.keras_accuracy_interval)}). "
        "Change is against Keras, in percentage points; agreement is the share of pictures with Keras' answer; latency "
        "is the median of single pictures on one thread of this machine and says nothing about another."
    )


def _shared(record: ConversionRecord) -> str:
    """That the figures of integer variants flatter, where they do."""
    shared = record.calibration.shared if record.calibration else 0
    return f"; {shared} of them calibrated it too, so integer variants look better than they are" if shared else ""


def _row(variant: VariantRecord) -> tuple[str, ...]:
    comparison = variant.comparison
    return (
        variant.artifact.variant.value,
        wording.size(variant.artifact.bytes),
        wording.percent(comparison.check.accuracy),
        f"{wording.change(comparison)} ({wording.change_range(comparison)})",
        wording.percent(comparison.check.agreement),
        wording.latency(variant.latency_ms),
        wording.one_line(wording.runtimes(variant)),
        "passed" if comparison.check.passed else "FAILED",
    )


def _line(row: tuple[str, ...], widths: list[int]) -> str:
    cells = []
    for index, (cell, width) in enumerate(zip(row, widths, strict=True)):
        text = fit(cell, width)
        cells.append(" " * (width - columns(text)) + text if index in _NUMBERS else pad(text, width))
    return _GAP.join(cells).rstrip()


def _reasons(record: ConversionRecord) -> list[str]:
    lines = []
    for variant in record.failed:
        lines += _wrapped(f"{variant.artifact.variant.value} is not in the bundle: {wording.failure(variant)}.")
    for left_out in record.left_out:
        lines += _wrapped(f"{wording.one_line(left_out.variant)} was left out: {wording.one_line(left_out.reason)}")
    return lines


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH)
