"""Run one check in a child process that may crash, hang or lack a library."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import edge_runtime

CHILD_MODULE = "edge_runtime.doctor.child"
TIMEOUT_S = 180.0
_MOST_REASON_CHARS = 600


@dataclass(frozen=True)
class Answer:
    """What a child said.

    Attributes:
        facts: Its answer; empty where it gave none.
        failure: Why it gave none, in one sentence; None where it did.
        error_type: Name of the exception that ended it, or of the signal; None where it answered.
    """

    facts: Mapping[str, Any] = field(default_factory=dict)
    failure: str | None = None
    error_type: str | None = None


Ask = Callable[..., Answer]


def ask(*question: str, timeout_s: float = TIMEOUT_S) -> Answer:
    """Run ``python -m edge_runtime.doctor.child QUESTION...`` and read the last line that it prints.

    Args:
        question: See `edge_runtime.doctor.child`.
        timeout_s: After so many seconds it is killed.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-m", CHILD_MODULE, *question],
            # python -m looks for modules in the current folder first, which is the user's and may hold any json.py.
            cwd=Path(edge_runtime.__file__).parents[1],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Answer(failure=f"gave no answer for {timeout_s:.0f} seconds", error_type="TimeoutExpired")
    except OSError as error:
        return Answer(failure=f"no child process can be started ({error.strerror})", error_type="OSError")
    if done.returncode < 0:
        name = _signal_name(-done.returncode)
        return Answer(failure=f"crashed its process ({name})", error_type=name)
    if done.returncode:
        return _of_exception(_last_line(done.stderr)[:_MOST_REASON_CHARS])
    try:
        facts = json.loads(_last_line(done.stdout))
    except ValueError:
        facts = None
    return Answer(facts) if isinstance(facts, dict) else Answer(failure="gave an answer that cannot be read")


def _of_exception(line: str) -> Answer:
    """A traceback's last line, ``module.Error: reason``."""
    kind, colon, reason = line.partition(": ")
    error_type = kind.rpartition(".")[2]
    if not colon or not error_type.isidentifier():
        return Answer(failure=line or "ended without a word", error_type=None)
    return Answer(failure=reason, error_type=error_type)


def _last_line(output: bytes) -> str:
    lines = [line for line in output.decode(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
