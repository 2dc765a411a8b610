"""Which artefact to take, in one sentence that promises no more than was measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from convert.check.record import ConversionRecord, VariantRecord
from convert.report import wording
from edge_runtime.contract import Variant

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
    return f"Take none of them: even the closest to Keras, {_name(closest)}, did not pass ({wording.failure(closest)})."


def _here(passed: Sequence[VariantRecord]) -> str:
    smallest = min(passed, key=lambda variant: variant.artifact.bytes)
    fastest = _fastest(passed)
    if len(passed) == 1:
        figures = [wording.size(smallest.artifact.bytes), *([wording.latency(fastest.latency_ms)] if fastest else [])]
        return f"take {_name(smallest)}, the only variant that passed ({', '.join(figures)} here)"
    if fastest is None:
        return f"where size counts take {_name(smallest)} ({_cost(smallest, wording.size(smallest.artifact.bytes))})"
    where = f"on this machine's processor take {_name(fastest)}, "
    speed = (
        "as fast here as any that passed" if _has_rival(fastest, passed) else "the fastest here of those that passed"
    )
    if fastest is smallest:
        both = f"{wording.latency(fastest.latency_ms)}, {wording.size(fastest.artifact.bytes)}"
        return f"{where}{speed} and the smallest ({_cost(fastest, both)})"
    return (
        f"{where}{speed} ({_cost(fastest, wording.latency(fastest.latency_ms))}), and where size counts take "
        f"{_name(smallest)}, the smallest ({_cost(smallest, wording.size(smallest.artifact.bytes))})"
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
    return f"no int8 passed for an Arm board or an Edge TPU, so measure {wording.joined(others)} on the board"


def _mediapipe(passed: Sequence[VariantRecord]) -> str:
    names = _of(passed, _FOR_MEDIAPIPE)[:2]
    return f"MediaPipe opens {wording.joined(names)}" if names else ""


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
    return f"{figure}, {wording.change(variant.comparison)} points"


def _of(passed: Sequence[VariantRecord], wanted: Sequence[Variant]) -> list[str]:
    names = {variant.artifact.variant for variant in passed}
    return [variant.value for variant in wanted if variant in names]


def _name(variant: VariantRecord) -> str:
    return variant.artifact.variant.value
