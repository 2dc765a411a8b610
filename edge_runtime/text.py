"""Text for people: terminal-safe strings, hidden secrets, column widths and sizes in bytes."""

from __future__ import annotations

import re

ELLIPSIS = "…"

# user:password@ or TOKEN@, up to the last @: a password may hold / ? # and @ though it should be percent-encoded.
_USER = re.compile(r"://(?:([^\s/@:?#]*):\S*|[^\s?]+)@")
_NAME = r"[\w.\-\[\]]"
_EQUALS = r"(?:=|%3d)"
_SECRET_NAME = (
    rf"{_NAME}*(?:pas|psw|pwd|passwd|token|secret|key|auth|sig|sess|cred|jwt|(?<![a-z])(?:pin|sid)|pw(?![a-z]))"
)
# The value ends where the next name=value begins: it may hold any of the separators itself.
_SECRET = re.compile(
    rf"({_SECRET_NAME}{_EQUALS}|/(?:pass?|psw|pwd|passwd|password|token|secret|key)[/:])"
    rf"(?:(?!(?:[&;,_/?#]|%26){_NAME}*{_EQUALS})\S)*",
    re.IGNORECASE,
)


def hide_secrets(text: str) -> str:
    """Hide passwords and tokens in an address, or in a sentence that contains one: ``rtsp://user:***@host/``.

    Hidden are what follows the user name before the last ``@``, a user name alone (it may be a token), and the values
    of names such as ``pas``, ``pwd``, ``psw``, ``password``, ``token`` or ``key``, in the query and in the path:
    ``/user=admin_password=***_channel=1``.
    """
    if "@" in text:
        text = _USER.sub(lambda found: "://***@" if found[1] is None else f"://{found[1]}:***@", text)
    return _SECRET.sub(r"\1***", text) if "=" in text or "/" in text or "%" in text else text


def escape(text: str) -> str:
    r"""Write whatever is not printable as a backslash escape: ``\x1b`` for ESC, ``\udcff`` for an undecodable byte.

    Printable text is left alone, so a name that holds a backslash is not doubled; JSONL is the exact format.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def escape_lines(text: str) -> str:
    """Escape a text of several lines; its line breaks stay."""
    return text if text.isprintable() else "\n".join(map(escape, text.split("\n")))


def columns(text: str) -> int:
    """Count the terminal columns of a printable text: two for wide East Asian characters, none for combining ones."""
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
    """Shorten a path to at most ``width`` columns; its last folders and name matter most, its start is on every row.

    Whole leading folders are left out (``…/cats/cat.1.jpg``); a name that is too long alone loses its middle.
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


_UNITS: dict[str, int] = {
    "": 1,
    "b": 1,
    **{name + end: 1000**power for power, name in enumerate("kmgt", 1) for end in ("", "b")},
    **{f"{name}i{end}": 1024**power for power, name in enumerate("kmgt", 1) for end in ("", "b")},
}
# Integer digits without a limit would make int() slow, and no disk is larger than the exabytes of 18 digits.
_SIZE = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?) ?([a-z]{0,3})", re.ASCII | re.IGNORECASE)
_SHOWN = 40
_SHOWN_UNITS = ("B", "kB", "MB", "GB", "TB")


def parse_bytes(text: str) -> int:
    """Read a size: a number, then ``B kB MB GB TB`` (powers of 1000), ``KiB MiB GiB TiB`` (of 1024) or nothing (bytes).

    ``B`` may be left out and case does not matter: ``500MB``, ``500m`` and ``500000000`` are the same.

    Returns:
        Bytes, at least 0; a fraction of a byte is cut off.

    Raises:
        ValueError: Not a size; the message is one sentence that can follow the option's name.
    """
    match = _SIZE.fullmatch(text.strip(" "))
    factor = _UNITS.get(match[2].lower()) if match else None
    if match is None or factor is None:
        shown = text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
        raise ValueError(f"expected a size such as 500MB, 1.5GB or 64MiB, got {shown!r}")
    whole, _, fraction = match[1].partition(".")
    # In integers, because floats would round large sizes.
    return int(whole) * factor + int(fraction or "0") * factor // int(10 ** len(fraction))


def format_bytes(count: int) -> str:
    """Write a size of at least 0 bytes for a person, in powers of 1000: ``512 B``, ``1.5 GB``."""
    value, power = float(count), 0
    # A value that rounds to 1000 belongs to the next unit.
    while value >= 999.5 and power < len(_SHOWN_UNITS) - 1:
        value, power = value / 1000, power + 1
    return f"{value:.{1 if power and value < 9.95 else 0}f} {_SHOWN_UNITS[power]}"
