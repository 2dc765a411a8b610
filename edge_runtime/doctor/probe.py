"""Run one check in a child process that may crash, hang or lack a library."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from edge_runtime.platform.childproc import isolated_command, last_line, signal_name

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
            isolated_command(CHILD_MODULE, *question),
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
        name = signal_name(-done.returncode)
        return Answer(failure=f"crashed its process ({name})", error_type=name)
    if done.returncode:
        return _of_exception(last_line(done.stderr)[:_MOST_REASON_CHARS])
    try:
        facts = json.loads(last_line(done.stdout))
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
