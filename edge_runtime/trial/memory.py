"""Remembers which models have passed their trial: an empty promise costs a crash, so every doubt means "no".

A file in the cache for each model, runtime and machine, written whole or not at all. Where nothing can be written,
nothing is remembered, and the next process tries again.
"""

from __future__ import annotations

import os
from pathlib import Path

from edge_runtime.cache import cache_folder
from edge_runtime.errors import OutputError
from edge_runtime.vetting.digest import file_sha256

OFF_VARIABLE = "EDGEKIT_TRIAL"
_FOLDER = "trials"
# What this process knows, so that a classifier a core costs one hash: path, inode, size, time of change, runtime.
_passed_here: set[tuple[str, int, int, int, str]] = set()


def needs_trial(path: Path, runtime: str) -> bool:
    """Whether a file that nothing vouches for is still to be tried; never where EDGEKIT_TRIAL is ``off``."""
    return os.environ.get(OFF_VARIABLE, "").lower() != "off" and not has_passed(path, runtime)


def has_passed(path: Path, runtime: str) -> bool:
    """Whether this very file has passed with this runtime on this machine.

    Raises:
        OSError: The model cannot be read.
    """
    if _identity(path, runtime) in _passed_here:
        return True
    expected = _text(path, runtime)
    try:
        with _entry(expected).open(encoding="utf-8") as file:
            found = file.read(len(expected) + 1) == expected
    except (OSError, ValueError, RuntimeError):  # RuntimeError: a user without a home
        return False
    if found:
        _passed_here.add(_identity(path, runtime))
    return found


def remember(path: Path, runtime: str) -> None:
    """Note that a file has passed; where the cache cannot be written, for this process only."""
    # Imported here because only the first run of a file from elsewhere needs it.
    from edge_runtime.atomic import write_atomic

    _passed_here.add(_identity(path, runtime))
    text = _text(path, runtime)
    try:
        write_atomic(_entry(text), text)
    except (OutputError, OSError, RuntimeError):
        return


def _identity(path: Path, runtime: str) -> tuple[str, int, int, int, str]:
    status = path.stat()
    return str(path), status.st_ino, status.st_size, status.st_mtime_ns, runtime


def _text(path: Path, runtime: str) -> str:
    """All that the promise depends on; the processor counts, since kernels are chosen by it."""
    machine = os.uname()
    return f"{file_sha256(path)}\n{runtime}\n{machine.machine} {machine.nodename}\nok\n"


def _entry(text: str) -> Path:
    sha256, runtime, machine, _ = text.splitlines()
    name = "-".join(part.replace(" ", "-").replace("/", "-") for part in (sha256, runtime, machine))
    return cache_folder() / _FOLDER / name
