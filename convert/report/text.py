"""Reports as text: the terminal table, the recommended artifact in one sentence, and ``conversion.md``."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from convert.gate import TOLERANCES, Comparison
from convert.record import CalibrationRecord, ConversionRecord, VariantRecord
from edge_runtime.contract import Variant
from edge_runtime.text import columns, fit, pad
from edge_runtime.workstation.reporting.wording import (
    ABSENT,
    escape_markdown,
    joined,
    markdown_list,
    markdown_table,
    megabytes,
    milliseconds,
    one_line,
    p_value,
    percent,
    percent_range,
    signed,
)

WIDTH = 120
_HEADER = ("variant", "size", "accuracy", "change (95 % interval)", "agreement", "latency", "lowest runtime", "verdict")
_NUMBERS = range(1, 6)
_RUNTIME = _HEADER.index("lowest runtime")
_GAP = "  "
# Medians of one machine within this factor count as equal.
_AS_FAST = 1.05
_INT8 = (Variant.INT8, Variant.INT8_PER_TENSOR)
_FOR_MEDIAPIPE = (Variant.FLOAT32, Variant.INT8, Variant.INT8_PER_TENSOR, Variant.FLOAT16, Variant.DYNAMIC)
_OTHER_TFLITE = (Variant.FLOAT32, Variant.FLOAT16, Variant.DYNAMIC, Variant.INT16X8)
_ARM = ("aarch64", "arm64", "armv")
_MAX_PAIRS = 5
_MAX_LABELS = 20
_MARKDOWN_HEADER = (
    "variant", "size", "accuracy (95 % interval)", "change, points (95 % interval)", "agreement", "McNemar p",
    "calibration error", "latency here", "lowest runtime", "verdict",
)  # fmt: skip


def change(comparison: Comparison) -> str:
    """Change of accuracy against Keras, in signed percentage points: ``-0.40``."""
    return signed(-comparison.drop_points)


def change_range(comparison: Comparison) -> str:
    """95 % interval of the change, in signed percentage points: ``-1.12 to +0.30``."""
    low, high = comparison.drop_interval_points
    return f"{signed(-high)} to {signed(-low)}"


def runtimes(record: VariantRecord) -> str:
    """Lowest runtimes that open an artifact."""
    return ", ".join(record.lowest_runtimes) or record.artifact.minimum_runtime


def failure(record: VariantRecord) -> str:
    """Explain in a clause why an artifact is not in the bundle; empty if it passed."""
    check = record.comparison.check
    if check.passed:
        return ""
    if record.comparison.drop_points > check.max_drop_points:
        return f"lost {record.comparison.drop_points:.2f} points, more than the allowed {check.max_drop_points:g}"
    allowed = TOLERANCES.get(record.artifact.variant, 0.0)
    largest = max(check.max_probability_difference, check.golden_max_difference)
    return f"a probability differs from Keras' by {largest:.1e}, more than the allowed {allowed:.0e}"


def text_table(record: ConversionRecord) -> str:
    """Format the table with aligned columns, explanation and failures, at most `WIDTH` columns wide."""
    rows = [_HEADER, *(_row(variant) for variant in record.variants)]
    rows += [(one_line(left_out.variant), *[ABSENT] * 6, "LEFT OUT") for left_out in record.left_out]
    widths = [max(columns(row[column]) for row in rows) for column in range(len(_HEADER))]
    others = sum(widths) - widths[_RUNTIME] + len(_GAP) * (len(widths) - 1)
    widths[_RUNTIME] = max(len(_HEADER[_RUNTIME]), min(widths[_RUNTIME], WIDTH - others))
    paragraphs = [explanation(record)]
    paragraphs += [f"{_name(variant)} is not in the bundle: {failure(variant)}." for variant in record.failed]
    paragraphs += [f"{one_line(entry.variant)} was left out: {one_line(entry.reason)}" for entry in record.left_out]
    wrapped = [line for paragraph in paragraphs for line in textwrap.wrap(paragraph, WIDTH)]
    return "\n".join([*(_line(row, widths) for row in rows), "", *wrapped])


def explanation(record: ConversionRecord) -> str:
    """Explain the figures: check images, Keras' own accuracy, meaning of the columns."""
    if not record.variants:
        return "Nothing could be measured."
    comparison = record.variants[0].comparison
    keras = percent(comparison.check.keras_accuracy, 2)
    count = record.calibration.shared if record.calibration else 0
    shared = f"; {count} of them are calibration images too, so figures of integer variants are too high"
    return (
        f"Checked on {record.check_images} images ({one_line(record.split)}{shared if count else ''}) in a process "
        f"without TensorFlow. Keras: {keras} ({percent_range(*comparison.keras_accuracy_interval)}). "
        "Change is against Keras, in percentage points; agreement is the share of images with Keras' answer; latency "
        "is the median of single images on one thread of this machine; other processors differ."
    )


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


def recommendation(record: ConversionRecord) -> str:
    """Recommend in one sentence the fastest and the smallest artifact here, and artifacts for other targets."""
    sentence = "; ".join(recommendations(record))
    return f"{sentence[0].upper()}{sentence[1:]}."


def recommendations(record: ConversionRecord) -> list[str]:
    """List the parts of the recommendation, without full stops: here, on Arm, in MediaPipe, in ONNX Runtime.

    Latency was measured on this machine only; on Arm, int8 is assumed to be the fastest.
    """
    passed = record.passed
    if not record.variants:
        return ["no recommendation, because no variant could be exported and run"]
    if not passed:
        closest = min(record.variants, key=lambda variant: variant.comparison.drop_points)
        return ["no variant passed", f"the closest to Keras is {_name(closest)} ({failure(closest)})"]
    for_mediapipe = _of(passed, _FOR_MEDIAPIPE)[:2]
    mediapipe = f"MediaPipe opens {joined(for_mediapipe)}" if for_mediapipe else ""
    parts = [_here(passed), _arm(record, passed), mediapipe, _onnx(passed)]
    return [part for part in parts if part]


def _here(passed: Sequence[VariantRecord]) -> str:
    smallest = min(passed, key=lambda variant: variant.artifact.bytes)
    fastest = _fastest(passed)
    if len(passed) == 1:
        figures = [megabytes(smallest.artifact.bytes), *([milliseconds(fastest.latency_ms)] if fastest else [])]
        return f"take {_name(smallest)}, the only variant that passed ({', '.join(figures)} here)"
    if fastest is None:
        return f"for the smallest file take {_name(smallest)} ({_cost(smallest, megabytes(smallest.artifact.bytes))})"
    where = f"on this machine's processor take {_name(fastest)}, "
    as_fast = sum(0 < variant.latency_ms <= _AS_FAST * fastest.latency_ms for variant in passed)
    speed = "as fast here as any that passed" if as_fast > 1 else "the fastest here of those that passed"
    if fastest is smallest:
        both = f"{milliseconds(fastest.latency_ms)}, {megabytes(fastest.artifact.bytes)}"
        return f"{where}{speed} and the smallest ({_cost(fastest, both)})"
    return (
        f"{where}{speed} ({_cost(fastest, milliseconds(fastest.latency_ms))}), and for the smallest file take "
        f"{_name(smallest)} ({_cost(smallest, megabytes(smallest.artifact.bytes))})"
    )


def _arm(record: ConversionRecord, passed: Sequence[VariantRecord]) -> str:
    if any(word in record.machine.lower() for word in _ARM):
        return ""  # measured on Arm, nothing to assume
    int8 = _of(passed, _INT8)
    if int8 and len(passed) > 1:
        sentence = f"on an Arm board try {int8[0]} first, probably the fastest there, and measure"
        whole = any(variant.artifact.variant in _INT8 and not variant.float_operators for variant in passed)
        return f"{sentence}; an Edge TPU needs int8 too" if whole else sentence
    others = _of(passed, _OTHER_TFLITE)
    if not others or int8:
        return ""
    return f"no int8 passed for an Arm board or an Edge TPU, so measure {joined(others)} on the board"


def _onnx(passed: Sequence[VariantRecord]) -> str:
    files = [variant for variant in passed if variant.artifact.variant.suffix == ".onnx"]
    chosen = _fastest(files) or min(files, key=lambda variant: variant.artifact.bytes, default=None)
    return f"ONNX Runtime takes {_name(chosen)}" if chosen else ""


def _fastest(variants: Sequence[VariantRecord]) -> VariantRecord | None:
    """Find the fastest; among equally fast ones the one with the least loss, then the smallest."""
    timed = [variant for variant in variants if variant.latency_ms > 0]
    if not timed:
        return None
    limit_ms = _AS_FAST * min(variant.latency_ms for variant in timed)
    as_fast = [variant for variant in timed if variant.latency_ms <= limit_ms]
    return min(as_fast, key=lambda variant: (variant.comparison.drop_points, variant.artifact.bytes))


def _cost(variant: VariantRecord, figure: str) -> str:
    return f"{figure}, {change(variant.comparison)} points"


def _of(passed: Sequence[VariantRecord], wanted: Sequence[Variant]) -> list[str]:
    names = {variant.artifact.variant for variant in passed}
    return [variant.value for variant in wanted if variant in names]


def _name(variant: VariantRecord) -> str:
    return variant.artifact.variant.value


def render(record: ConversionRecord) -> str:
    """Render ``conversion.md``."""
    sections = [
        f"# Conversion of {escape_markdown(record.model_name)}",
        escape_markdown(recommendation(record)),
        *([markdown_table(_MARKDOWN_HEADER, map(_markdown_row, record.variants))] if record.variants else []),
        escape_markdown(explanation(record)),
        *_list("Not in the bundle", [f"{_name(entry)}: {failure(entry)}" for entry in record.failed]),
        *_list("Could not be exported or opened", [f"{entry.variant}: {entry.reason}" for entry in record.left_out]),
        *(section for variant in record.variants for section in _steps(variant)),
        *_list("Changed answers, most frequent first", filter(None, map(_pairs, record.variants))),
        *(_calibration(record.calibration) if record.calibration else []),
        *_list("Notes", [f"{_name(entry)}: {note}" for entry in record.variants for note in entry.notes]),
        *_made_with(record),
    ]
    return "\n\n".join(sections) + "\n"


def _markdown_row(variant: VariantRecord) -> Sequence[str]:
    name, size, accuracy, drop, agreement, *others = _row(variant)
    comparison = variant.comparison
    accuracy += f" ({percent_range(*comparison.accuracy_interval)})"
    statistics = p_value(comparison.mcnemar_p), percent(comparison.calibration_error, 2)
    return (name, size, accuracy, drop, agreement, *statistics, *others)


def _steps(variant: VariantRecord) -> list[str]:
    if not variant.steps:
        return []
    rows = []
    for step in variant.steps:
        shares = percent(step.accuracy, 2), percent(step.agreement, 2)
        verdict = "passed" if step.passed else "failed"
        rows.append((step.description, *shares, megabytes(step.bytes), milliseconds(step.latency_ms), verdict))
    header = ("step", "accuracy", "agreement", "size", "latency here", "gate")
    return [f"## Steps of {_name(variant)}", markdown_table(header, rows)]


def _pairs(variant: VariantRecord) -> str:
    pairs = variant.comparison.flip_pairs
    shown = ", ".join(f"{pair.keras} → {pair.artifact} {pair.count}" for pair in pairs[:_MAX_PAIRS])
    more = f" and {len(pairs) - _MAX_PAIRS} more pairs" if len(pairs) > _MAX_PAIRS else ""
    return f"{_name(variant)}: {shown}{more}" if pairs else ""


def _calibration(calibration: CalibrationRecord) -> list[str]:
    classes = ", ".join(f"{label} {count}" for label, count in list(calibration.per_class.items())[:_MAX_LABELS])
    more = " …" if len(calibration.per_class) > _MAX_LABELS else ""
    text = (
        f"{calibration.images} images ({classes}{more}), of which {calibration.shared} are check images too, method "
        f"{calibration.method}, seed {calibration.seed}, SHA-256 of their list {calibration.sha256}."
    )
    rows = [(str(p.images), percent(p.accuracy, 2), percent(p.agreement, 2)) for p in calibration.points]
    table = [markdown_table(("images", "accuracy of int8", "agreement"), rows)] if rows else []
    return ["## Calibration", escape_markdown(text), *table]


def _made_with(record: ConversionRecord) -> list[str]:
    settings = ", ".join(f"{name} {value}" for name, value in record.settings.items())
    versions = ", ".join(f"{name} {version}" for name, version in record.versions.items())
    lines = [f"From: {record.origin}", f"Machine: {record.machine}", f"Settings: {settings}", f"Versions: {versions}"]
    return ["## Made with", markdown_list([*lines, f"Took {record.seconds:.0f} s"])]


def _list(heading: str, items: Iterable[str]) -> list[str]:
    lines = list(items)
    return [f"## {heading}", markdown_list(lines)] if lines else []
