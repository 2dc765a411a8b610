"""Start a measuring child process, wait for its answer, and never leave it behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from benchmarks.measuring.protocol import ChildAnswer, ChildSpec, read_message, write_message
from edge_runtime.errors import EngineError

# Keras is measured on the processor too: a GPU in the workstation says nothing about the device.
_KERAS_ENVIRONMENT = {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}


def ask_child(module: str, spec: ChildSpec, folder: Path, timeout_s: float) -> tuple[ChildAnswer, int]:
    """Run ``python -m MODULE`` in a fresh process and read its answer.

    Args:
        module: ``benchmarks.measuring.artifact_child`` or ``benchmarks.measuring.keras_child``.
        spec: What it shall measure; ``spec.answer`` lies in ``folder``.
        folder: Scratch folder, also the child's working directory, so that a file called ``numpy.py`` in the user's
            own is not imported.
        timeout_s: After so many seconds the child is killed.

    Returns:
        The answer, and the moment just before the process was made, in nanoseconds of ``time.monotonic_ns``.

    Raises:
        EngineError: The model could not be used, or the child crashed, was killed, or gave no answer in time.
    """
    spec_file, answer_file = folder / "spec.json", Path(spec.answer)
    answer_file.unlink(missing_ok=True)
    write_message(spec_file, spec)
    command = [sys.executable, "-m", module, str(spec_file)]
    spawned_ns = time.monotonic_ns()
    try:
        # subprocess.run kills the child on a timeout and on Ctrl-C.
        done = subprocess.run(
            command,
            cwd=folder,
            env=_environment(module, os.environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise EngineError(
            f"gave no answer within {timeout_s:g} s and was stopped; allow more with --timeout"
        ) from error
    if done.returncode != 0:
        raise EngineError(_describe_crash(done.returncode, done.stderr.decode(errors="replace")))
    return read_message(ChildAnswer, answer_file), spawned_ns


def _environment(module: str, inherited: Mapping[str, str]) -> dict[str, str]:
    extra = _KERAS_ENVIRONMENT if module.endswith("keras_child") else {}
    return {**inherited, **extra}


def _describe_crash(code: int, stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    reason = lines[-1] if lines else "it said nothing"
    if code < 0:
        return f"its process was killed by {signal.Signals(-code).name} ({reason})"
    return f"its process failed with exit code {code} ({reason})"
