"""Run a model once in a child process before opening it here, because a damaged model can crash a native runtime.

The child imports the runtime once and forks for each file. A pass is recorded in the cache folder, one file for each
model, runtime and machine. A false hit could crash this process, so any doubt about a record counts as a miss; where
the cache cannot be written, the next process runs the sandbox again.
"""

from __future__ import annotations

import enum
import json
import os
import platform
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
_START_TIMEOUT_S = 120.0
_CHILD = "edge_runtime.model.sandbox_child"
# Passes known to this process, so that one classifier a core costs one hash: path, inode, size, mtime and runtime.
_passed: set[tuple[str, int, int, int, str]] = set()


class SandboxOutcome(str, enum.Enum):
    """Result of a sandbox run."""

    OK = "ok"
    REFUSED = "refused"  # by the structural check or by the runtime, with a reason
    CRASHED = "crashed"  # the process died
    TIMED_OUT = "timed out"


@dataclass(frozen=True)
class SandboxResult:
    """Result of one model.

    Attributes:
        path: The model file.
        outcome: Result of the run.
        reason: Sentence for the user: the runtime's message, the signal, or the time; None after a pass.
        error: Name of the error class of a refusal; None otherwise.
    """

    path: Path
    outcome: SandboxOutcome
    reason: str | None = None
    error: str | None = None

    @property
    def ok(self) -> bool:
        """True if the model can be opened in this process."""
        return self.outcome is SandboxOutcome.OK


def needs_sandbox(path: Path, runtime: str) -> bool:
    """Tell whether an unverified file must still run in the sandbox; never if EDGEKIT_TRIAL is ``off``."""
    return os.environ.get(SANDBOX_VARIABLE, "").lower() != "off" and not has_passed_sandbox(path, runtime)


def require_sandbox_pass(path: Path, engine: str, runtime: str) -> None:
    """Run a file in the sandbox and record its pass with a runtime such as ``litert 2.3.0``.

    Raises:
        IntegrityError: It crashed the child.
        EngineError: It took too long, or no child process can be started.
        EdgeKitError: The structural check or the runtime refused it.
    """
    (result,) = try_models([path], engine)
    if result.outcome is SandboxOutcome.CRASHED:
        raise IntegrityError(
            f"{path}: crashed {runtime} in a trial run ({result.reason}), so it is damaged or not made for this "
            "runtime; copy or export it again"
        )
    if result.outcome is SandboxOutcome.TIMED_OUT:
        raise EngineError(f"{path}: gave no answer in a trial run of {runtime} ({result.reason})")
    if not result.ok:
        kind: type[EdgeKitError] = getattr(errors, result.error or "", EngineError)
        raise kind(result.reason)
    remember_pass(path, runtime)


def try_models(paths: Sequence[Path], engine: str = "auto", *, timeout_s: float = 60.0) -> list[SandboxResult]:
    """Open each file in a child process and run images of zeros, of 255 and of noise through it.

    Args:
        paths: Paths of ``.tflite`` and ``.onnx`` files.
        engine: Engine name as `edge_runtime.engines.parse_engine` takes it.
        timeout_s: Time limit for one file, in seconds.

    Returns:
        One result for each path, in their order.

    Raises:
        EngineError: No child process can be started here.
    """
    if not paths:
        return []
    name = engine.value if isinstance(engine, enum.Enum) else engine
    job = {"engine": name, "timeout_s": timeout_s, "paths": [str(path) for path in paths]}
    answers, ended = _run_child(job, _START_TIMEOUT_S + timeout_s * len(paths))
    results = [SandboxResult(path, SandboxOutcome.CRASHED, ended) for path in paths]
    for answer in answers:
        index = int(answer["index"])
        outcome = SandboxOutcome(answer["outcome"])
        results[index] = SandboxResult(paths[index], outcome, answer["reason"], answer["error"])
    return results


def _run_child(job: dict[str, Any], timeout_s: float) -> tuple[list[dict[str, Any]], str]:
    """Answers of the child, and a sentence about its exit code."""
    # Imported here because only the first run of an unverified file needs them.
    import subprocess

    from edge_runtime.platform.childproc import isolated_command

    try:
        with subprocess.Popen(
            isolated_command(_CHILD), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
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


def has_passed_sandbox(path: Path, runtime: str) -> bool:
    """Tell whether this very file has passed with this runtime on this machine.

    Raises:
        OSError: The model cannot be read.
    """
    if _identity(path, runtime) in _passed:
        return True
    expected = _record_text(path, runtime)
    try:
        with _record_path(expected).open(encoding="utf-8") as file:
            found = file.read(len(expected) + 1) == expected
    except (OSError, ValueError, RuntimeError):  # RuntimeError: a user without a home
        return False
    if found:
        _passed.add(_identity(path, runtime))
    return found


def remember_pass(path: Path, runtime: str) -> None:
    """Record a pass in the cache; for this process only if the cache cannot be written."""
    # Imported here because only the first run of an unverified file needs it.
    from edge_runtime.platform.atomic import write_atomic

    _passed.add(_identity(path, runtime))
    text = _record_text(path, runtime)
    try:
        write_atomic(_record_path(text), text)
    except (OutputError, OSError, RuntimeError):
        return


def forget_passes() -> None:
    """Forget the passes that this process has seen; those in the cache folder stay."""
    _passed.clear()


def _identity(path: Path, runtime: str) -> tuple[str, int, int, int, str]:
    status = path.stat()
    return str(path), status.st_ino, status.st_size, status.st_mtime_ns, runtime


def _record_text(path: Path, runtime: str) -> str:
    """Content of a record: file, runtime and machine, because kernels are chosen by the processor."""
    machine = os.uname()
    return f"{file_sha256(path)}\n{runtime}\n{machine.machine} {machine.nodename}\nok\n"


def _record_path(text: str) -> Path:
    sha256, runtime, machine, _ = text.splitlines()
    name = "-".join(part.replace(" ", "-").replace("/", "-") for part in (sha256, runtime, machine))
    return cache_folder() / _FOLDER / name
