"""Probe: one check in a child process that may crash, hang or lack a library.

The parent calls `probe`; the child runs `main` with one of these questions:

    import MODULE             import it: its version
    tiny ENGINE               open and run a tiny model in ``litert``, ``tflite-runtime`` or ``onnxruntime``
    model PATH [VARIANT]      open and run a model, replay the golden inputs of its bundle, and time it

The answer is one JSON object, the last line of standard output. An exception ends the child with its traceback, whose
last line becomes the reason.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_runtime.platform.childproc import isolated_command, last_line, signal_name

_TIMEOUT_S = 180.0
_MOST_REASON_CHARS = 600


@dataclass(frozen=True)
class Answer:
    """Answer of a child process.

    Attributes:
        facts: Its JSON object; empty if it failed.
        failure: Reason of the failure in one sentence; None if it answered.
        error_type: Name of the exception or signal that ended it; None if it answered.
    """

    facts: Mapping[str, Any] = field(default_factory=dict)
    failure: str | None = None
    error_type: str | None = None


Probe = Callable[..., Answer]


def probe(*question: str, module: str = __name__, timeout_s: float = _TIMEOUT_S) -> Answer:
    """Run ``main`` of a module in a child process and read its answer.

    Args:
        question: Words of the question, its ``sys.argv[1:]``.
        module: Dotted name of the module.
        timeout_s: Seconds after which the child is killed.
    """
    try:
        done = subprocess.run(
            isolated_command(module, *question),
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
        return _exception_answer(last_line(done.stderr)[:_MOST_REASON_CHARS])
    try:
        facts = json.loads(last_line(done.stdout))
    except ValueError:
        facts = None
    return Answer(facts) if isinstance(facts, dict) else Answer(failure="gave an answer that cannot be read")


def _exception_answer(line: str) -> Answer:
    """Parse the last line of a traceback, ``module.Error: reason``."""
    kind, colon, reason = line.partition(": ")
    error_type = kind.rpartition(".")[2]
    if not colon or not error_type.isidentifier():
        return Answer(failure=line or "ended without an error message", error_type=None)
    return Answer(failure=reason, error_type=error_type)


def main() -> None:
    """Answer the question on the command line, in the child process."""
    question, *arguments = sys.argv[1:]
    print(json.dumps(_ANSWERS[question](*arguments), allow_nan=False))


def _import(name: str) -> dict[str, Any]:
    return {"version": str(getattr(importlib.import_module(name), "__version__", ""))}


def _tiny(engine: str) -> dict[str, Any]:
    from edge_runtime.doctor.replay import run_tiny

    return run_tiny(engine)


def _model(path: str, variant: str | None = None) -> dict[str, Any]:
    from edge_runtime.doctor.replay import replay
    from edge_runtime.model.bundle import SANDBOX_VARIABLE

    if variant is not None:  # the doctor has run a bundle's files in the sandbox
        os.environ[SANDBOX_VARIABLE] = "off"
    return replay(Path(path), variant)


_ANSWERS: Mapping[str, Callable[..., dict[str, Any]]] = {"import": _import, "tiny": _tiny, "model": _model}
