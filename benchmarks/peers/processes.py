"""Child processes that are measured as a whole: wall time, processor time and peak memory."""

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
from typing import IO, Any

from edge_runtime.errors import EngineError, shorten
from edge_runtime.platform.childproc import last_line

_REASON_CHARACTERS = 300
_MAX_OUTPUT_BYTES = 64 << 20


@dataclass(frozen=True)
class Finished:
    """Resource usage of a process that has ended.

    Attributes:
        started_ns: Time just before its start, of ``time.monotonic_ns``, which all processes share.
        wall_ns: Duration until its end.
        cpu_ns: Processor time of it and its children, start and end included.
        peak_bytes: Largest resident memory, from the kernel.
        output: Its standard output.
    """

    started_ns: int
    wall_ns: int
    cpu_ns: int
    peak_bytes: int
    output: bytes


def run_process(
    command: Sequence[str | Path], timeout_s: float, good: Sequence[int] = (0,), env: Mapping[str, str] | None = None
) -> Finished:
    """Run a command to its end.

    Args:
        command: Program and its arguments.
        timeout_s: Seconds after which it and its children are killed.
        good: Exit codes of success.
        env: Environment variables, or None for those of this process.

    Raises:
        EngineError: It cannot be started, fails, or does not end in time.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        started_ns = time.monotonic_ns()
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, env=env, start_new_session=True
            )
        except OSError as error:
            raise EngineError(f"{command[0]} cannot be started ({error.strerror}); install it again") from error
        usage, is_late = _wait(process, timeout_s)
        wall_ns = time.monotonic_ns() - started_ns
        if is_late:
            raise EngineError(f"did not end within {timeout_s:g} s and was stopped")
        if process.returncode not in good:
            reason = shorten(last_line(_read(errors)), _REASON_CHARACTERS) or "no message"
            raise EngineError(f"ended with exit code {process.returncode}: {reason}")
        cpu_ns = int((usage.ru_utime + usage.ru_stime) * 1e9)
        return Finished(started_ns, wall_ns, cpu_ns, usage.ru_maxrss * 1024, _read(output))


def ask_child(
    program: Sequence[str | Path], request: Mapping[str, Any], folder: Path, timeout_s: float
) -> tuple[dict[str, Any], Finished]:
    """Run a child program on a request and read its result, the last line of its standard output.

    Args:
        program: Program and its first arguments; the file of the request is added as the last one.
        request: Request in the form of the program.
        folder: Folder for the file of the request.
        timeout_s: Seconds after which the process is killed.

    Raises:
        EngineError: The process failed, gave no result, or gave ``{"error": reason}``.
    """
    file = folder / "request.json"
    file.write_text(json.dumps(request), encoding="utf-8")
    finished = run_process([*program, file], timeout_s)
    line = last_line(finished.output)
    try:
        result = json.loads(line)
    except ValueError:
        result = None
    if not isinstance(result, dict):
        raise EngineError(f"gave no result, but {shorten(repr(line), _REASON_CHARACTERS)}")
    if "error" in result:
        raise EngineError(str(result["error"]))
    return result, finished


def _wait(process: subprocess.Popen[bytes], timeout_s: float) -> tuple[resource.struct_rusage, bool]:
    """Wait for the end; kill the process after the timeout, and on Ctrl-C, since its session is its own.

    Returns:
        Its resource usage, and True if it was killed.
    """
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


def _read(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read(_MAX_OUTPUT_BYTES)
