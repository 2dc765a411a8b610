"""Figures as text, the same on the terminal, in Markdown and on the page."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.statistics import Interval, Share

ABSENT = "–"


def one_line(text: str) -> str:
    """Text of a person or a file system without line breaks and control characters."""
    return "".join(char if char.isprintable() else " " for char in text)


def sentence(text: str) -> str:
    """One line that ends in a full stop."""
    line = one_line(text).strip()
    return line if line.endswith((".", "!", "?")) else f"{line}."


def significant(value: float) -> str:
    """About three significant digits, at most three decimals: ``0.704``, ``9.31``, ``66.1``, ``114``."""
    size = abs(value)
    digits = 3 if size < 1 else 2 if size < 10 else 1 if size < 100 else 0
    return f"{value:.{digits}f}"


def megabytes(count: int) -> str:
    """Bytes as MB of 10^6, such as ``0.658 MB`` or ``66.1 MB``."""
    return f"{significant(count / 1e6)} MB"


def percent(fraction: float) -> str:
    """A fraction 0..1 as ``98.4 %``."""
    return f"{100 * fraction:.1f} %"


def percent_range(share: Share) -> str:
    """The interval of a share as ``96.9 to 99.2``."""
    return f"{100 * share.low:.1f} to {100 * share.high:.1f}"


def span(interval: Interval | None) -> str:
    """An interval as ``0.51 to 0.53``; empty without one."""
    return "" if interval is None else f"{significant(interval.low)} to {significant(interval.high)}"


def signed(points: float) -> str:
    """Two decimals with sign, and no sign where they are zero."""
    rounded = round(points, 2)
    return f"{rounded:+.2f}" if rounded else "0.00"


def p_value(value: float) -> str:
    """Two decimals, three where it is small."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def joined(names: Sequence[str], word: str = "and") -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return f" {word} ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def counted(count: int, noun: str) -> str:
    """``1 image``, ``1,024 images``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
