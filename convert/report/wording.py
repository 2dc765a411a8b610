"""Figures as text, the same on the terminal, in Markdown and on the page."""

from __future__ import annotations

from collections.abc import Sequence

from convert.check.compare import Comparison, tolerance
from convert.check.record import VariantRecord

ABSENT = "–"


def size(count: int) -> str:
    """Bytes as MB or kB of powers of ten, such as ``0.46 MB``."""
    return f"{count / 1e6:.2f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"


def percent(fraction: float) -> str:
    """A fraction 0..1 as ``98.40 %``."""
    return f"{fraction * 100:.2f} %"


def percent_range(ends: Sequence[float]) -> str:
    """Two fractions 0..1 as ``96.9 to 99.2``."""
    return f"{ends[0] * 100:.1f} to {ends[1] * 100:.1f}"


def latency(latency_ms: float) -> str:
    """Milliseconds with about three digits, such as ``0.27 ms``."""
    if latency_ms <= 0:
        return ABSENT
    digits = 2 if latency_ms < 10 else 1 if latency_ms < 100 else 0
    return f"{latency_ms:.{digits}f} ms"


def change(comparison: Comparison) -> str:
    """What the artefact's accuracy is above Keras', in points, with sign: ``-0.40``."""
    return signed(-comparison.drop_points)


def change_range(comparison: Comparison) -> str:
    """The 95 % interval of the change: ``-1.12 to +0.30``."""
    low, high = comparison.drop_interval_points
    return f"{signed(-high)} to {signed(-low)}"


def signed(points: float) -> str:
    """Two decimals with sign, and no sign where they are zero."""
    rounded = round(points, 2)
    return f"{rounded:+.2f}" if rounded else "0.00"


def p_value(value: float) -> str:
    """Two decimals, three where it is small."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def runtimes(record: VariantRecord) -> str:
    """The lowest runtimes that open an artefact."""
    return ", ".join(record.lowest_runtimes) or record.artifact.minimum_runtime


def failure(record: VariantRecord) -> str:
    """Why an artefact is not in the bundle, as a clause; empty where it passed."""
    check = record.comparison.check
    if check.passed:
        return ""
    if record.comparison.drop_points > check.max_drop_points:
        return f"lost {record.comparison.drop_points:.2f} points, more than the allowed {check.max_drop_points:g}"
    allowed = tolerance(record.artifact.variant)
    largest = max(check.max_probability_difference, check.golden_max_difference)
    return f"a probability is {largest:.1e} from Keras', more than the allowed {allowed or 0:.0e}"


def joined(names: Sequence[str], word: str = "and") -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return f" {word} ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def one_line(text: str) -> str:
    """Text from outside without line breaks and control characters."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())
