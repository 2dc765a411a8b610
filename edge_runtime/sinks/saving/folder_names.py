"""Labels as names of folders: safe on every file system, told apart as labels are, and read back."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from urllib.parse import unquote

from edge_runtime.labels import look_alike_key, normalize_label

# Windows' and FAT's, since SD cards and shares travel; % is our own mark.
_UNSAFE = frozenset('%/\\<>:"|?*')
_RESERVED = frozenset(
    {"con", "prn", "aux", "nul", *(f"{name}{digit}" for name in ("com", "lpt") for digit in range(10)), "__macosx"}
)
_JOINERS = "\u200c\u200d"
_MAX_BYTES = 200  # of 255, so that a prefix has room
_HASH_DIGITS = 12


def folder_name(label: str) -> str:
    """The name of a label's folder: itself where it is safe, else with ``%2F`` for ``/`` and the like.

    Names of more than 200 bytes are cut and end in ``~`` and part of their SHA-256; all others `label_of` reads back.
    """
    label = normalize_label(label)
    name = "".join(_escaped(char) if char in _UNSAFE or not _is_printable(char) else char for char in label)
    if name[:1] in (".", " ") or name.partition(".")[0].rstrip().lower() in _RESERVED:
        name = _escaped(label[0]) + name[1:]
    if name[-1:] in (".", " "):
        name = name[:-1] + _escaped(label[-1])
    melts = name != label and (normalize_label(name) != name or _has_joiner(label))
    if melts or not label.strip(_JOINERS):
        # An accent behind an escape would melt with its last letter, and a joiner would hide there.
        name = _escaped(label)
    return _shortened(name or "%")


def label_of(name: str) -> str:
    """The label (in Unicode normal form NFC) that `folder_name` made a name of, unless it was cut.

    Raises:
        ValueError: Such a name is never made.
    """
    return "" if name == "%" else unquote(name, errors="surrogatepass")


class FolderNames:
    """Names for the labels of one model, of which some may differ in case only, as ImageNet's Cardigan and cardigan.

    Args:
        labels: All labels of the model; others are named too, but may look like one of these.
    """

    def __init__(self, labels: Iterable[str] = ()) -> None:
        self._names: dict[str, str] = {}
        self._taken: dict[str, str] = {}
        for label in labels:
            self.of(label)

    def of(self, label: str) -> str:
        """The folder of a label; always the same for the same label."""
        if label not in self._names:
            self._names[label] = self._first_free(normalize_label(label))
        return self._names[label]

    def _first_free(self, label: str) -> str:
        plain = folder_name(label)
        # Its first letter as an escape, unless that meets an accent or a joiner.
        marked = _escaped(label[:1]) + plain[1:]
        usable = plain == label and normalize_label(marked) == marked and not _has_joiner(label)
        names = [plain, marked] if usable else [plain]
        for name in names:
            if self._taken.setdefault(look_alike_key(name), label) == label:
                return name
        return _shortened(_escaped(label))


def _escaped(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode("utf-8", errors="surrogatepass"))


def _is_printable(char: str) -> bool:
    return char.isprintable() or char in _JOINERS


def _has_joiner(label: str) -> bool:
    return any(joiner in label for joiner in _JOINERS)


def _shortened(name: str) -> str:
    data = name.encode()
    if len(data) <= _MAX_BYTES:
        return name
    head = data[: _MAX_BYTES - _HASH_DIGITS - 1].decode(errors="ignore")
    return f"{head}~{hashlib.sha256(data).hexdigest()[:_HASH_DIGITS]}"
