"""Start a child process, ask it once, and read its one answer."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_runtime.errors import EngineError
from edge_runtime.labels import shorten

_REASON_CHARACTERS = 300
_MAX_ANSWER_BYTES = 64 << 20


@dataclass(frozen=True)
class Finished:
    """A process that has ended well.

    Attributes:
        started_ns: Just before it was made, of ``time.monotonic_ns``, which all processes share.
        wall_ns: Until it had ended.
        cpu_ns: Processor time of it and its children, start and end included.
        peak_bytes: Largest resident memory, as the kernel says when a process ends.
        output: Its standard output.
    """

    started_ns: int
    wall_ns: int
    cpu_ns: int
    peak_bytes: int
    output: bytes


def run_process(command: Sequence[str | Path], timeout_s: float, good: Sequence[int] = (0,)) -> Finished:
    """Run a command to its end.

    Args:
        command: The program and its arguments.
        timeout_s: Seconds after which it and its children are stopped.
        good: Exit codes that mean that it did what it should.

    Raises:
        EngineError: It cannot be started, fails, or does not end in time.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as trouble:
        started_ns = time.monotonic_ns()
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=trouble, start_new_session=True
            )
        except OSError as error:
            raise EngineError(f"{command[0]} cannot be started ({error.strerror}); install it again") from error
        usage, is_late = _wait(process, timeout_s)
        wall_ns = time.monotonic_ns() - started_ns
        if is_late:
            raise EngineError(f"did not end within {timeout_s:g} s and was stopped")
        if process.returncode not in good:
            raise EngineError(f"ended with exit code {process.returncode}: {_last_line(_read(trouble))}")
        cpu_ns = int((usage.ru_utime + usage.ru_stime) * 1e9)
        return Finished(started_ns, wall_ns, cpu_ns, usage.ru_maxrss * 1024, _read(output))


def ask_child(
    program: Sequence[str | Path], request: Mapping[str, Any], folder: Path, timeout_s: float
) -> tuple[dict[str, Any], Finished]:
    """Give a child program a request and read its result, the last line of its standard output.

    Args:
        program: The program; the file of the request is its last argument.
        request: As the program takes it.
        folder: Where the request is written.
        timeout_s: Seconds until the process is stopped.

    Raises:
        EngineError: The process failed, gave no result, or gave ``{"error": reason}``.
    """
    file = folder / "request.json"
    file.write_text(json.dumps(request), encoding="utf-8")
    finished = run_process([*program, file], timeout_s)
    lines = finished.output.decode(errors="replace").strip().splitlines()
    try:
        result = json.loads(lines[-1])
    except (IndexError, ValueError) as error:
        raise EngineError(f"gave no result, but {shorten(repr(lines[-1:]), _REASON_CHARACTERS)}") from error
    if not isinstance(result, dict):
        raise EngineError(f"gave no result, but {shorten(repr(result), _REASON_CHARACTERS)}")
    if "error" in result:
        raise EngineError(str(result["error"]))
    return result, finished


def _wait(process: subprocess.Popen[bytes], timeout_s: float) -> tuple[resource.struct_rusage, bool]:
    """What it used, and whether it had to be stopped; Ctrl-C stops it too, since its session is its own."""
    late = threading.Event()

    def stop() -> None:
        late.set()
        _kill(process)

    timer = threading.Timer(timeout_s, stop)
    timer.daemon = True
    timer.start()
    try:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    finally:
        timer.cancel()
        if process.returncode is None:
            _kill(process)
            process.wait()
    return usage, late.is_set()


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _read(file: Any) -> bytes:
    file.seek(0)
    content: bytes = file.read(_MAX_ANSWER_BYTES)
    return content


def _last_line(trouble: bytes) -> str:
    lines = [line.strip() for line in trouble.decode(errors="replace").splitlines() if line.strip()]
    return shorten(lines[-1], _REASON_CHARACTERS) if lines else "without a word"
