"""Label lists: validation, look-alike names and the text form (one label per line, in output order)."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

from edge_runtime.errors import shorten

MAX_LABEL_CHARACTERS = 256
# The zero-width (non-)joiner: part of ordinary Persian words and of many emoji, though Python calls it unprintable.
_JOINERS = str.maketrans("", "", "\u200c\u200d")


def check_labels(labels: Sequence[str]) -> None:
    """Raise ValueError unless there are at least two labels, each one printable line of text."""
    if len(labels) < 2:
        raise ValueError(f"expected at least two labels, got {len(labels)}")
    for index, label in enumerate(labels):
        if not label.strip() or not label.translate(_JOINERS).isprintable():
            raise ValueError(f"label {index} must be one printable line of text, got {shorten(repr(label))}")
        if len(label) > MAX_LABEL_CHARACTERS:
            raise ValueError(
                f"label {index} must have at most {MAX_LABEL_CHARACTERS} characters, got {len(label)}: "
                f"{shorten(repr(label))}"
            )


def check_class_names(labels: Sequence[str]) -> None:
    """Check the labels of a training or test set, more strictly than `check_labels`.

    Raises:
        ValueError: A label that is not one line of text, or that people or file systems confuse with another.
    """
    check_labels(labels)
    for label in labels:
        if label != label.strip():
            raise ValueError(f"label {label!r} begins or ends with a space")
    clash = find_clash(labels)
    if clash:
        raise ValueError(f"labels {clash[0]!a} and {clash[1]!a} look alike, differing in case or encoding only")


def normalize_label(text: str) -> str:
    """Normalize to Unicode NFC, so that a folder named on a Mac (NFD) is the same class as one named elsewhere."""
    return unicodedata.normalize("NFC", text)


def look_alike_key(text: str) -> str:
    """Key that is equal for names that differ only in case, Unicode normalization or invisible joiners."""
    return normalize_label(text.translate(_JOINERS).lower())


def find_clash(names: Iterable[str]) -> tuple[str, str] | None:
    """Find two different names with the same `look_alike_key`, or None."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(look_alike_key(name), name)
        if other != name:
            return other, name
    return None


def to_text(labels: Sequence[str]) -> str:
    """Write one label a line, each line ended."""
    return "".join(f"{label}\n" for label in labels)


def from_text(text: str) -> tuple[str, ...]:
    """Inverse of `to_text`; the final newline adds no label."""
    return tuple(text.removesuffix("\n").split("\n"))
