"""The label list as text: one label a line, in the order of the outputs."""

from __future__ import annotations

from collections.abc import Sequence


def check_labels(labels: Sequence[str]) -> None:
    """Raise ValueError unless there are at least two labels, each one printable line of text."""
    if len(labels) < 2:
        raise ValueError(f"expected at least two labels, got {len(labels)}")
    for index, label in enumerate(labels):
        if not label.strip() or not label.isprintable():
            raise ValueError(f"label {index} must be one printable line of text, got {label!r}")


def to_text(labels: Sequence[str]) -> str:
    """One label a line, each line ended."""
    return "".join(f"{label}\n" for label in labels)


def from_text(text: str) -> tuple[str, ...]:
    """What `to_text` was given; the final newline adds no label."""
    return tuple(text.removesuffix("\n").split("\n"))
