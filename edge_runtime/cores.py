"""Which processor this is, and how many of its cores there are to work with."""

from __future__ import annotations

import contextlib
import os
import platform
from pathlib import Path

_CPU_KEYS = ("model name", "Model", "Hardware")  # x86, then Raspberry Pi and other Arm boards


def core_count() -> int:
    """Cores that this process may use, at least 1."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_model(root: Path = Path("/")) -> str:
    """The board or processor as the kernel names it, or the architecture; ``root`` is where ``proc`` lies."""
    names: dict[str, str] = {}
    with contextlib.suppress(OSError):
        board = (root / "proc/device-tree/model").read_text(encoding="utf-8", errors="replace").strip("\0 \n")
        if board:
            return board
    with contextlib.suppress(OSError):
        for line in (root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            names.setdefault(key.strip(), value.strip())
    return next((names[key] for key in _CPU_KEYS if names.get(key)), platform.machine())
