"""Figures as text, the table on the terminal, and the recommended artifact in one sentence."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from convert.gate import Comparison, tolerance
from convert.record import ConversionRecord, VariantRecord
from edge_runtime.contract import Variant
from edge_runtime.text import columns, fit, pad
from edge_runtime.workstation.reporting.wording import (
    ABSENT,
    joined,
    megabytes,
    milliseconds,
    one_line,
    percent,
    percent_range,
    signed,
)


def change(comparison: Comparison) -> str:
    """What the artifact's accuracy is above Keras', in points, with sign: ``-0.40``."""
    return signed(-comparison.drop_points)


def change_range(comparison: Comparison) -> str:
    """The 95 % interval of the change: ``-1.12 to +0.30``."""
    low, high = comparison.drop_interval_points
    return f"{signed(-high)} to {signed(-low)}"


def runtimes(record: VariantRecord) -> str:
    """The lowest runtimes that open an artifact."""
    return ", ".join(record.lowest_runtimes) or record.artifact.minimum_runtime


def failure(record: VariantRecord) -> str:
    """Why an artifact is not in the bundle, as a clause; empty where it passed."""
    check = record.comparison.check
    if check.passed:
        return ""
    if record.comparison.drop_points > check.max_drop_points:
        return f"lost {record.comparison.drop_points:.2f} points, more than the allowed {check.max_drop_points:g}"
    allowed = tolerance(record.artifact.variant)
    largest = max(check.max_probability_difference, check.golden_max_difference)
    return f"a probability is {largest:.1e} from Keras', more than the allowed {allowed or 0:.0e}"


WIDTH = 120
_HEADER = ("variant", "size", "accuracy", "change (95 % interval)", "agreement", "latency", "lowest runtime", "verdict")
_NUMBERS = range(1, 6)
_RUNTIME = _HEADER.index("lowest runtime")
_GAP = "  "


def text_table(record: ConversionRecord) -> str:
    """The table with aligned columns, then what a reader must know; no line is wider than `WIDTH` columns."""
    rows = [_HEADER, *(_row(variant) for variant in record.variants)]
    rows += [(one_line(left_out.variant), *[ABSENT] * 6, "LEFT OUT") for left_out in record.left_out]
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
    keras = percent(comparison.check.keras_accuracy, 2)
    return (
        f"Checked on {record.check_images} images ({one_line(record.split)}{_shared(record)}) in a process "
        f"without TensorFlow. Keras itself: {keras} ({percent_range(*comparison.keras_accuracy_interval)}). "
        "Change is against Keras, in percentage points; agreement is the share of images with Keras' answer; latency "
        "is the median of single images on one thread of this machine and says nothing about another."
    )


def _shared(record: ConversionRecord) -> str:
    """That the figures of integer variants flatter, where they do."""
    shared = record.calibration.shared if record.calibration else 0
    return f"; {shared} of them calibrated it too, so integer variants look better than they are" if shared else ""


def _row(variant: VariantRecord) -> tuple[str, ...]:
    comparison = variant.comparison
    return (
        variant.artifact.variant.value,
        megabytes(variant.artifact.bytes),
        percent(comparison.check.accuracy, 2),
        f"{change(comparison)} ({change_range(comparison)})",
        percent(comparison.check.agreement, 2),
        milliseconds(variant.latency_ms),
        one_line(runtimes(variant)),
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
        lines += _wrapped(f"{variant.artifact.variant.value} is not in the bundle: {failure(variant)}.")
    for left_out in record.left_out:
        lines += _wrapped(f"{one_line(left_out.variant)} was left out: {one_line(left_out.reason)}")
    return lines


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH)


# Medians of one machine that are closer than this are not told apart.
_AS_FAST = 1.05
_INT8 = (Variant.INT8, Variant.INT8_PER_TENSOR)
_FOR_MEDIAPIPE = (Variant.FLOAT32, Variant.INT8, Variant.INT8_PER_TENSOR, Variant.FLOAT16, Variant.DYNAMIC)
_OTHER_TFLITE = (Variant.FLOAT32, Variant.FLOAT16, Variant.DYNAMIC, Variant.INT16X8)
_ARM = ("aarch64", "arm64", "armv")


def recommendation(record: ConversionRecord) -> str:
    """One sentence: what is fastest and smallest here, and what to take elsewhere.

    Latency was measured on this machine's processor only; that int8 is the fastest on Arm is presumed, and said so.
    """
    passed = record.passed
    if not passed:
        return _nothing_passed(record)
    parts = [_here(passed), _arm(record, passed), _mediapipe(passed), _onnx(passed)]
    sentence = "; ".join(part for part in parts if part)
    return f"{sentence[0].upper()}{sentence[1:]}."


def _nothing_passed(record: ConversionRecord) -> str:
    if not record.variants:
        return "There is nothing to take, because no variant could be exported and run."
    closest = min(record.variants, key=lambda variant: variant.comparison.drop_points)
    return f"Take none of them: even the closest to Keras, {_name(closest)}, did not pass ({failure(closest)})."


def _here(passed: Sequence[VariantRecord]) -> str:
    smallest = min(passed, key=lambda variant: variant.artifact.bytes)
    fastest = _fastest(passed)
    if len(passed) == 1:
        figures = [megabytes(smallest.artifact.bytes), *([milliseconds(fastest.latency_ms)] if fastest else [])]
        return f"take {_name(smallest)}, the only variant that passed ({', '.join(figures)} here)"
    if fastest is None:
        return f"where size counts take {_name(smallest)} ({_cost(smallest, megabytes(smallest.artifact.bytes))})"
    where = f"on this machine's processor take {_name(fastest)}, "
    speed = (
        "as fast here as any that passed" if _has_rival(fastest, passed) else "the fastest here of those that passed"
    )
    if fastest is smallest:
        both = f"{milliseconds(fastest.latency_ms)}, {megabytes(fastest.artifact.bytes)}"
        return f"{where}{speed} and the smallest ({_cost(fastest, both)})"
    return (
        f"{where}{speed} ({_cost(fastest, milliseconds(fastest.latency_ms))}), and where size counts take "
        f"{_name(smallest)}, the smallest ({_cost(smallest, megabytes(smallest.artifact.bytes))})"
    )


def _arm(record: ConversionRecord, passed: Sequence[VariantRecord]) -> str:
    if any(word in record.machine.lower() for word in _ARM):
        return ""  # measured on Arm, so nothing is left to presume
    int8 = _of(passed, _INT8)
    if int8 and len(passed) > 1:
        sentence = f"on an Arm board try {int8[0]} first, presumed the fastest there, and measure"
        whole = any(variant.artifact.variant in _INT8 and not variant.float_operators for variant in passed)
        return f"{sentence}; an Edge TPU needs int8 too" if whole else sentence
    others = _of(passed, _OTHER_TFLITE)
    if not others or int8:
        return ""
    return f"no int8 passed for an Arm board or an Edge TPU, so measure {joined(others)} on the board"


def _mediapipe(passed: Sequence[VariantRecord]) -> str:
    names = _of(passed, _FOR_MEDIAPIPE)[:2]
    return f"MediaPipe opens {joined(names)}" if names else ""


def _onnx(passed: Sequence[VariantRecord]) -> str:
    files = [variant for variant in passed if variant.artifact.variant.suffix == ".onnx"]
    if not files:
        return ""
    chosen = _fastest(files) or min(files, key=lambda variant: variant.artifact.bytes)
    return f"ONNX Runtime takes {_name(chosen)}"


def _fastest(variants: Sequence[VariantRecord]) -> VariantRecord | None:
    """The fastest; of those that are as fast, the one that lost the least, then the smallest."""
    timed = [variant for variant in variants if variant.latency_ms > 0]
    if not timed:
        return None
    limit_ms = _AS_FAST * min(variant.latency_ms for variant in timed)
    as_fast = [variant for variant in timed if variant.latency_ms <= limit_ms]
    return min(as_fast, key=lambda variant: (variant.comparison.drop_points, variant.artifact.bytes))


def _has_rival(fastest: VariantRecord, variants: Iterable[VariantRecord]) -> bool:
    limit_ms = _AS_FAST * fastest.latency_ms
    return any(variant is not fastest and 0 < variant.latency_ms <= limit_ms for variant in variants)


def _cost(variant: VariantRecord, figure: str) -> str:
    return f"{figure}, {change(variant.comparison)} points"


def _of(passed: Sequence[VariantRecord], wanted: Sequence[Variant]) -> list[str]:
    names = {variant.artifact.variant for variant in passed}
    return [variant.value for variant in wanted if variant in names]


def _name(variant: VariantRecord) -> str:
    return variant.artifact.variant.value
