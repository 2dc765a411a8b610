"""Run a model once in a child process before opening it here, because a damaged model can crash a native runtime.

The child imports the runtime once and forks for each file. A pass is recorded in the cache folder, one file for
each model, runtime and machine; any doubt about a record counts as a miss.

A file in the cache for each model, runtime and machine, written whole or not at all. Where nothing can be written,
nothing is remembered, and the next process tries again.

A child imports the runtime once and forks for each file, so that many files cost little more than one. A success is
remembered, see `edge_runtime.model.sandbox`.
"""

from __future__ import annotations

import enum
import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_runtime import errors
from edge_runtime.errors import EdgeKitError, EngineError, IntegrityError, OutputError
from edge_runtime.model.bundle import file_sha256
from edge_runtime.platform.process import cache_folder

SANDBOX_VARIABLE = "EDGEKIT_TRIAL"
_FOLDER = "trials"
# What this process knows, so that a classifier a core costs one hash: path, inode, size, time of change, runtime.
_passed_here: set[tuple[str, int, int, int, str]] = set()


def needs_sandbox(path: Path, runtime: str) -> bool:
    """Whether a file that nothing vouches for is still to be tried; never where EDGEKIT_TRIAL is ``off``."""
    return os.environ.get(SANDBOX_VARIABLE, "").lower() != "off" and not has_passed_sandbox(path, runtime)


def has_passed_sandbox(path: Path, runtime: str) -> bool:
    """Whether this very file has passed with this runtime on this machine.

    Raises:
        OSError: The model cannot be read.
    """
    if _identity(path, runtime) in _passed_here:
        return True
    expected = _record_text(path, runtime)
    try:
        with _record_path(expected).open(encoding="utf-8") as file:
            found = file.read(len(expected) + 1) == expected
    except (OSError, ValueError, RuntimeError):  # RuntimeError: a user without a home
        return False
    if found:
        _passed_here.add(_identity(path, runtime))
    return found


def remember_pass(path: Path, runtime: str) -> None:
    """Note that a file has passed; where the cache cannot be written, for this process only."""
    # Imported here because only the first run of a file from elsewhere needs it.
    from edge_runtime.platform.atomic import write_atomic

    _passed_here.add(_identity(path, runtime))
    text = _record_text(path, runtime)
    try:
        write_atomic(_record_path(text), text)
    except (OutputError, OSError, RuntimeError):
        return


def _identity(path: Path, runtime: str) -> tuple[str, int, int, int, str]:
    status = path.stat()
    return str(path), status.st_ino, status.st_size, status.st_mtime_ns, runtime


def _record_text(path: Path, runtime: str) -> str:
    """All that the promise depends on; the processor counts, since kernels are chosen by it."""
    machine = os.uname()
    return f"{file_sha256(path)}\n{runtime}\n{machine.machine} {machine.nodename}\nok\n"


def _record_path(text: str) -> Path:
    sha256, runtime, machine, _ = text.splitlines()
    name = "-".join(part.replace(" ", "-").replace("/", "-") for part in (sha256, runtime, machine))
    return cache_folder() / _FOLDER / name


_START_TIMEOUT_S = 120.0
# Isolated from the environment and the working directory, with the same search path as this process.
_PROGRAM = "import sys; sys.path[:] = sys.argv[1:]; from edge_runtime.model.sandbox_child import main; main()"


class SandboxOutcome(str, enum.Enum):
    """How a trial ended."""

    OK = "ok"
    REFUSED = "refused"  # by the structural check or by the runtime, with a reason
    CRASHED = "crashed"  # it took the process down
    TIMED_OUT = "timed out"


@dataclass(frozen=True)
class SandboxResult:
    """One model that was tried.

    Attributes:
        path: The file.
        outcome: How it ended.
        reason: For a person: the runtime's sentence, the signal, or the time; None where all went well.
        error: Name of the error class of a refusal; None otherwise.
    """

    path: Path
    outcome: SandboxOutcome
    reason: str | None = None
    error: str | None = None

    @property
    def ok(self) -> bool:
        """Whether it can be opened in this process."""
        return self.outcome is SandboxOutcome.OK


def try_models(paths: Sequence[Path], engine: str = "auto", *, timeout_s: float = 60.0) -> list[SandboxResult]:
    """Open each file in a child process and run images of zeros, of 255 and of noise through it.

    Args:
        paths: ``.tflite`` and ``.onnx`` files.
        engine: As `edge_runtime.engines.opening.open_engine` takes it.
        timeout_s: How long one file may take, in seconds.

    Returns:
        One trial for each path, in their order.

    Raises:
        EngineError: No child process can be started here.
    """
    if not paths:
        return []
    job = {"engine": engine, "timeout_s": timeout_s, "paths": [str(path) for path in paths]}
    answers, ended = _run_child(job, _START_TIMEOUT_S + timeout_s * len(paths))
    trials = [SandboxResult(path, SandboxOutcome.CRASHED, ended) for path in paths]
    for answer in answers:
        index = int(answer["index"])
        trials[index] = SandboxResult(
            paths[index], SandboxOutcome(answer["outcome"]), answer["reason"], answer["error"]
        )
    return trials


def require_sandbox_pass(path: Path, engine: str, runtime: str) -> None:
    """Refuse a file that fails its trial, and remember one that passes.

    Args:
        path: The file.
        engine: As for `try_models`.
        runtime: Name and version of the runtime, such as ``litert 2.3.0``.

    Raises:
        IntegrityError: It crashed the child.
        EngineError: It took too long, or no child process can be started.
        EdgeKitError: What the structural check or the runtime has against it.
    """
    (trial,) = try_models([path], engine)
    if not trial.ok:
        raise _error(trial, runtime)
    remember_pass(path, runtime)


def _error(trial: SandboxResult, runtime: str) -> EdgeKitError:
    if trial.outcome is SandboxOutcome.CRASHED:
        return IntegrityError(
            f"{trial.path}: crashed {runtime} in a trial run ({trial.reason}), so it is damaged or not made for this "
            "runtime; copy or export it again"
        )
    if trial.outcome is SandboxOutcome.TIMED_OUT:
        return EngineError(f"{trial.path}: gave no answer in a trial run of {runtime} ({trial.reason})")
    kind: type[EdgeKitError] = getattr(errors, trial.error or "", EngineError)
    return kind(trial.reason)


def _run_child(job: dict[str, Any], timeout_s: float) -> tuple[list[dict[str, Any]], str]:
    """Give the answers of the child, and how it ended."""
    # Imported here because only the first run of a file from elsewhere needs it.
    import subprocess

    # The child sees what we see, in the same order; an editable installation is found by a hook, not by a path.
    root = str(Path(__file__).resolve().parents[2])
    places = [entry for entry in sys.path if entry]
    command = [sys.executable, "-I", "-c", _PROGRAM, *([] if root in places else [root]), *places]
    try:
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as child:
            try:
                output, _ = child.communicate(json.dumps(job).encode(), timeout=timeout_s)
            except subprocess.TimeoutExpired:
                child.kill()
                output, _ = child.communicate()
    except OSError as error:
        raise EngineError(_no_child(error.strerror or str(error))) from error
    greeting, *lines = output.decode().splitlines() or [""]
    if greeting != platform.machine():
        # Under an emulator the host's own Python may have been started.
        raise EngineError(_no_child(f"got {greeting or 'nothing'} from it instead of {platform.machine()}"))
    return [json.loads(line) for line in lines], f"the trial ended with code {child.returncode}"


def _no_child(reason: str) -> str:
    return (
        f"a model is tried in a process of its own first, and none can be started here ({reason}); "
        f"set {SANDBOX_VARIABLE}=off to open it without a trial"
    )
