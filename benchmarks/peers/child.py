"""Start a peer's process, ask it once, and read its one answer."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_runtime.errors import EngineError
from edge_runtime.labels import shorten

SCRIPT = Path(__file__).with_name("scripts") / "loop.py"
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


def run_process(command: Sequence[str | Path], timeout_s: float) -> Finished:
    """Run a command to its end.

    Raises:
        EngineError: It cannot be started, fails, or does not end in time; then it and its children are stopped.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as trouble:
        started_ns = time.monotonic_ns()
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=trouble, start_new_session=True
            )
        except OSError as error:
            raise EngineError(f"{command[0]} cannot be started ({error.strerror}); make bench-peers again") from error
        status, usage = _wait(process, started_ns + int(timeout_s * 1e9))
        wall_ns = time.monotonic_ns() - started_ns
        if status is None:
            raise EngineError(f"did not end within {timeout_s:g} s and was stopped")
        if status:
            raise EngineError(f"ended with exit code {status}: {_last_line(_read(trouble))}")
        cpu_ns = int((usage.ru_utime + usage.ru_stime) * 1e9)
        return Finished(started_ns, wall_ns, cpu_ns, usage.ru_maxrss * 1024, _read(output))


def ask_peer(
    python: Path, request: Mapping[str, Any], folder: Path, timeout_s: float
) -> tuple[dict[str, Any], Finished]:
    """Give a peer's script a request and read the result; see `benchmarks.peers.scripts.loop`.

    Args:
        python: Of the peer's environment.
        request: As the script takes it.
        folder: Where the request is written.
        timeout_s: Seconds until the process is stopped.

    Raises:
        EngineError: The process failed, or the tool could not open the model.
    """
    file = folder / "request.json"
    file.write_text(json.dumps(request), encoding="utf-8")
    finished = run_process([python, SCRIPT, file], timeout_s)
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


def _wait(process: subprocess.Popen[bytes], deadline_ns: int) -> tuple[int | None, Any]:
    """Exit code, or None where it was stopped, and what it used."""
    pause_s = 0.002
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return process.returncode, usage
        if time.monotonic_ns() > deadline_ns:
            os.killpg(process.pid, signal.SIGKILL)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            return None, usage
        time.sleep(pause_s)


def _read(file: Any) -> bytes:
    file.seek(0)
    content: bytes = file.read(_MAX_ANSWER_BYTES)
    return content


def _last_line(trouble: bytes) -> str:
    lines = [line.strip() for line in trouble.decode(errors="replace").splitlines() if line.strip()]
    return shorten(lines[-1], _REASON_CHARACTERS) if lines else "without a word"
