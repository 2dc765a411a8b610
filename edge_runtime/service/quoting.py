"""Quote words for systemd unit files; see systemd.syntax(7), "Quoting", and systemd.unit(5), "Specifiers"."""

from __future__ import annotations

import os
import re

_PLAIN = re.compile(r"[A-Za-z0-9_@+=:,./-]+")
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r", "%": "%%"}
_FIRST_SURROGATE, _LAST_SURROGATE = 0xDC80, 0xDCFF


def quote_word(word: str) -> str:
    """One word of ``ExecStart=:...`` or of a list of paths, so that systemd reads back exactly ``word``.

    With the colon before the program systemd leaves ``$`` alone, so it is not escaped here.

    Args:
        word: Any text without a zero character; undecodable bytes as surrogates.
    """
    if _PLAIN.fullmatch(word):
        return word
    return '"' + "".join(_quote_char(char) for char in word) + '"'


def _quote_char(char: str) -> str:
    if char in _ESCAPES:
        return _ESCAPES[char]
    if _FIRST_SURROGATE <= ord(char) <= _LAST_SURROGATE:
        return f"\\x{os.fsencode(char)[0]:02x}"
    if char.isprintable() or ord(char) > 0x7E:
        # systemd refuses control characters of Unicode nowhere, but a line separator would puzzle a reader.
        return char if char.isprintable() else "".join(f"\\x{byte:02x}" for byte in char.encode())
    return f"\\x{ord(char):02x}"
