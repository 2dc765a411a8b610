"""Child process that runs untrusted models; see `edge_runtime.model.sandbox`.

Reads a job as JSON from standard input, writes the machine's architecture, then one line of JSON per file.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import resource
import select
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.contract import TensorSpec
from edge_runtime.engines import import_runtime, open_engine
from edge_runtime.errors import EdgeKitError
from edge_runtime.model.sandbox import SandboxOutcome
from edge_runtime.platform.childproc import die_with_parent, signal_name

_MEMORY_BYTES = 1 << 30
_MEMORY_PER_FILE_BYTE = 4  # the file is mapped, and a delegate packs its weights again
_LONGEST_REASON = 2000


def main() -> None:
    """Carry out the job on standard input."""
    job = json.load(sys.stdin)
    # Native libraries write to both; the answers keep a descriptor of their own.
    answers, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.write(answers, f"{platform.machine()}\n".encode())
    paths = [Path(path) for path in job["paths"]]
    # Before the first fork, so that numpy loads this module once.
    np.random.default_rng(0)
    for suffix in sorted({path.suffix for path in paths}):
        # For the same reason; a runtime that cannot be imported is reported for each file.
        with contextlib.suppress(EdgeKitError):
            import_runtime(Path(f"x{suffix}"), job["engine"])
    for index, path in enumerate(paths):
        answer = {"index": index, **_try_in_fork(path, job)}
        os.write(answers, (json.dumps(answer) + "\n").encode())


def _try_in_fork(path: Path, job: dict[str, Any]) -> dict[str, Any]:
    timeout_s = float(job["timeout_s"])
    (read_end, write_end), parent = os.pipe(), os.getpid()
    pid = os.fork()
    if pid == 0:
        # os._exit, so that nothing of the parent's is flushed or torn down twice.
        try:
            die_with_parent(parent)
            limited = _limit(path, timeout_s)
            os.write(write_end, json.dumps({**_try(path, job), "limited": limited}).encode())
        finally:
            os._exit(0)
    os.close(write_end)
    try:
        written = _read_until(read_end, time.monotonic() + timeout_s)
    finally:
        os.close(read_end)
    if written is None:
        os.kill(pid, signal.SIGKILL)
    status = os.waitpid(pid, 0)[1]
    if written is None:
        return _answer(SandboxOutcome.TIMED_OUT, f"after {timeout_s:g} seconds")
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return _answer(SandboxOutcome.CRASHED, f"signal {number}, {signal_name(number)}")
    if not written:
        return _answer(SandboxOutcome.CRASHED, f"exit code {os.waitstatus_to_exitcode(status)}")
    answer: dict[str, Any] = json.loads(written)
    return answer


def _read_until(descriptor: int, deadline_s: float) -> bytes | None:
    parts: list[bytes] = []
    while select.select([descriptor], [], [], max(0.0, deadline_s - time.monotonic()))[0]:
        part = os.read(descriptor, 1 << 16)
        if not part:
            return b"".join(parts)
        parts.append(part)
    return None


def _limit(path: Path, timeout_s: float) -> bool:
    """Limit this process' time and memory; False if the memory cannot be limited."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    cpu_s = int(timeout_s + 1) * (os.cpu_count() or 1)
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
    try:
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        size = path.stat().st_size if path.exists() else 0
        most = min(mapped + _MEMORY_BYTES + _MEMORY_PER_FILE_BYTE * size, sys.maxsize)
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    except (OSError, ValueError):
        return False  # no /proc
    return True


def _try(path: Path, job: dict[str, Any]) -> dict[str, Any]:
    try:
        opened = open_engine(path, job["engine"], cpu_fallback=job["advice"])
        for image in _images(opened.input):
            opened.invoke(image)
    except EdgeKitError as error:
        return _answer(SandboxOutcome.REFUSED, str(error), type(error).__name__)
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        return _answer(SandboxOutcome.REFUSED, f"{path}: cannot be run ({error})", "EngineError")
    except MemoryError:
        reason = f"{path}: needs more memory than a model of its size should"
        return _answer(SandboxOutcome.REFUSED, reason, "IntegrityError")
    return _answer(SandboxOutcome.OK)


def _images(tensor: TensorSpec) -> list[NDArray[Any]]:
    """Images of the least and of the greatest pixel value, and of noise."""
    rng, dtype = np.random.default_rng(0), np.dtype(tensor.dtype)
    low, high = (-128, 127) if dtype == np.int8 else (0, 255)
    noise = rng.integers(low, high + 1, tensor.shape)
    return [np.full(tensor.shape, low, dtype), np.full(tensor.shape, high, dtype), noise.astype(dtype)]


def _answer(outcome: SandboxOutcome, reason: str | None = None, error: str | None = None) -> dict[str, Any]:
    return {"outcome": outcome.value, "reason": reason[:_LONGEST_REASON] if reason else None, "error": error}
