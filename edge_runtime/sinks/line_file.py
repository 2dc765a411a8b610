"""Files of lines as a crash leaves them: whether one is ours, and how its end is made whole."""

from __future__ import annotations

import json
import os
from collections.abc import Callable

_BLOCK = 1 << 16
_LONGEST_LINE = 1 << 20
_JSONL_START = b'{"source": '


def first_line(handle: int) -> tuple[bytes, bool]:
    """The first line of an open file without its newline, at most a mebibyte of it, and whether it had a newline."""
    data = os.pread(handle, _LONGEST_LINE, 0)
    line, newline, _ = data.partition(b"\n")
    return line, bool(newline)


def is_jsonl(line: bytes, whole: bool) -> bool:
    """Whether a first line is a record of `edge_runtime.results.to_record`, or what a crash left of one."""
    if not whole:
        torn = line.rstrip(b"\0")
        return len(torn) < _LONGEST_LINE and (torn.startswith(_JSONL_START) or _JSONL_START.startswith(torn))
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(record, dict) and "source" in record


def is_csv_with(header: bytes) -> Callable[[bytes, bool], bool]:
    """Make the check that a first line is this header, or what a crash left of it."""
    expected = header.removesuffix(b"\n")

    def check(line: bytes, whole: bool) -> bool:
        return line == expected if whole else expected.startswith(line.rstrip(b"\0"))

    return check


def repair_end(handle: int) -> None:
    """Cut what comes after the last newline of an open file: half a line, or zeros after a cut of power.

    Raises:
        OSError: It cannot be read or cut.
    """
    size = end = os.fstat(handle).st_size
    while end > 0:
        start = max(0, end - _BLOCK)
        newline = os.pread(handle, end - start, start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    if end < size:
        os.ftruncate(handle, end)
