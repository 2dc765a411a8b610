"""Sizes in bytes as people write them: ``500MB``, ``1.5 GiB``."""

from __future__ import annotations

import re

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
    # What rounds to 1000 belongs to the next unit.
    while value >= 999.5 and power < len(_SHOWN_UNITS) - 1:
        value, power = value / 1000, power + 1
    return f"{value:.{1 if power and value < 9.95 else 0}f} {_SHOWN_UNITS[power]}"
