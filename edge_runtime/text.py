"""Text for people: terminal-safe strings, hidden secrets, column widths and sizes in bytes."""

from __future__ import annotations

import re

ELLIPSIS = "…"

# Patterns are compiled on use: at a start that would take a millisecond.
_ADDRESS = r"(?<=://)\S+"
# user:password@ or TOKEN@, up to the last @: a password may hold / ? # and @, though it should be percent-encoded.
_USER = r"(?:([^/@:?#]*):.*|[^?]+)@"
_NAME = r"[\w.\-\[\]]"
_EQUALS = r"(?:=|%3d)"
_WORDS = r"pas|psw|pwd|token|secret|key|auth|sig|sess|cred|jwt|(?:pw|(?<![a-z])(?:pin|sid))(?![a-z])"
_SEGMENT = r"/(?:pass?|psw|pwd|passwd|password|token|secret|key)[/:]"
# The value ends where the next name=value begins: it may hold any of the separators itself.
_NEXT = rf"(?:(?:[&;,/?#]|%26){_NAME}{{0,40}}|_[a-z0-9]{{1,40}}){_EQUALS}"
_SECRET = rf"(?i)((?<!{_NAME}){_NAME}*?(?:{_WORDS}){_NAME}{{0,40}}{_EQUALS}|{_SEGMENT})(?:(?!{_NEXT}).)*"


def hide_secrets(text: str) -> str:
    """Hide passwords and tokens in an address, or in a sentence that contains addresses: ``rtsp://user:***@host/``.

    Hidden are what stands between the user name and the last ``@``, a user name alone (it may be a token, but not that
    of a broker), and the values of names such as ``pas``, ``pwd``, ``psw``, ``password``, ``token`` or ``key``, in the
    query and in the path: ``/user=admin_password=***_channel=1``.
    """
    return re.sub(_ADDRESS, _hide, text) if "://" in text else text


def _hide(found: re.Match[str]) -> str:
    address, scheme = found[0], found.string[max(0, found.start() - 8) : found.start()]
    user = re.match(_USER, address)
    if user and (user[1] is not None or "mqtt" not in scheme.lower()):
        name = "" if user[1] is None else f"{user[1]}:"
        address = f"{name}***@{address[user.end() :]}"
    return re.sub(_SECRET, r"\1***", address)


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


_FORMULA = "=+-@\t\r\uff1d\uff0b\uff0d\uff20"  # spreadsheets of East Asia run the wide forms, too


def csv_text(text: str) -> str:
    """Put ``'`` in front of a CSV cell that a spreadsheet would run as a formula; `csv_plain` takes it off.

    A cell that has the sign already gets another one, so nothing is lost: ``=1`` becomes ``'=1``, and ``'=1`` ``''=1``.
    """
    return f"'{text}" if text.lstrip("'")[:1] in _FORMULA and text.strip("'") else text


def csv_plain(cell: str) -> str:
    """Undo `csv_text`."""
    return cell[1:] if cell[:1] == "'" and csv_text(cell[1:]) == cell else cell


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
_SIZE = r"(?ai)([0-9]{1,18}(?:\.[0-9]{1,9})?) ?([a-z]{0,3})"
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
    match = re.fullmatch(_SIZE, text.strip(" "))
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
