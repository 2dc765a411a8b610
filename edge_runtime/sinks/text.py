"""Make any text safe and fitting for a terminal: file names and labels come from strangers."""

from __future__ import annotations

ELLIPSIS = "…"


def escape(text: str) -> str:
    r"""Write whatever is not printable as a backslash escape: ``\x1b`` for ESC, ``\udcff`` for an undecodable byte.

    Printable text is left alone, so a name that holds a backslash is not doubled; JSONL is the exact format.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def columns(text: str) -> int:
    """Terminal columns that a printable text takes: two for wide East Asian characters, none for combining ones."""
    if text.isascii():
        return len(text)
    import unicodedata

    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def fit(text: str, width: int) -> str:
    """Cut the end of a text to at most ``width`` columns."""
    return text if columns(text) <= width else _head(text, width - 1) + ELLIPSIS


def fit_path(path: str, width: int) -> str:
    """Shorten a path to at most ``width`` columns: its last folders and name say most, its start is on every row.

    Whole folders are left out in front (``…/cats/cat.1.jpg``); a name that is too long alone loses its middle.
    """
    if columns(path) <= width:
        return path
    start = path.find("/", 1)
    while start >= 0:
        tail = path[start:]
        if columns(tail) < width:
            return ELLIPSIS + tail
        start = path.find("/", start + 1)
    name = path.rpartition("/")[2]
    head = _head(name, (width - 1) // 2)
    tail_width = width - 1 - columns(head)
    return head + ELLIPSIS + _head(name[::-1], tail_width)[::-1]


def pad(text: str, width: int) -> str:
    """Fill with blanks up to ``width`` columns."""
    return text + " " * (width - columns(text))


def _head(text: str, width: int) -> str:
    taken = 0
    for index, char in enumerate(text):
        taken += columns(char)
        if taken > width:
            return text[:index]
    return text


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
