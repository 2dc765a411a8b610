"""Run a model once in a child process before opening it here, because a damaged model can crash a native runtime.

The child imports the runtime once and forks for each file; `edge_runtime.model.bundle` records the passes. A SHA-256
inside a file or a bundle proves that it is whole and not who made it, so every file runs here first.
"""

from __future__ import annotations

import enum
import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_runtime import errors
from edge_runtime.errors import EdgeKitError, EngineError, IntegrityError
from edge_runtime.model.bundle import SANDBOX_VARIABLE

_START_TIMEOUT_S = 120.0
_CHILD = "edge_runtime.model.sandbox_child"


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
        limited: True if its memory was limited, so that a pass says what the model needs.
    """

    path: Path
    outcome: SandboxOutcome
    reason: str | None = None
    error: str | None = None
    limited: bool = True

    @property
    def ok(self) -> bool:
        """True if the model can be opened in this process."""
        return self.outcome is SandboxOutcome.OK


def require_sandbox_pass(path: Path, engine: str, runtime: str, cpu_fallback: str | None = None) -> bool:
    """Run a file in the sandbox, in a runtime such as ``litert 2.3.0``.

    Returns:
        True if the pass can be recorded, False if the memory could not be limited here.

    Raises:
        IntegrityError: It crashed the child.
        EngineError: It took too long, or no child process can be started.
        EdgeKitError: The structural check or the runtime refused it.
    """
    (result,) = try_models([path], engine, cpu_fallback=cpu_fallback)
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
    return result.limited


def try_models(
    paths: Sequence[Path], engine: str = "auto", *, timeout_s: float = 60.0, cpu_fallback: str | None = None
) -> list[SandboxResult]:
    """Open each file in a child process and run images of zeros, of 255 and of noise through it.

    Args:
        paths: Paths of ``.tflite`` and ``.onnx`` files.
        engine: Engine name as `edge_runtime.engines.parse_engine` takes it.
        timeout_s: Time limit for one file, in seconds.
        cpu_fallback: Advice on running the same model without an Edge TPU, for a message.

    Returns:
        One result for each path, in their order.

    Raises:
        EngineError: No child process can be started here.
    """
    if not paths:
        return []
    name = engine.value if isinstance(engine, enum.Enum) else engine
    job = {"engine": name, "timeout_s": timeout_s, "advice": cpu_fallback, "paths": [str(path) for path in paths]}
    answers, ended = _run_child(job, _START_TIMEOUT_S + timeout_s * len(paths))
    results = [SandboxResult(path, SandboxOutcome.CRASHED, ended) for path in paths]
    for answer in answers:
        index = int(answer["index"])
        outcome = SandboxOutcome(answer["outcome"])
        results[index] = SandboxResult(
            paths[index], outcome, answer["reason"], answer["error"], bool(answer.get("limited", True))
        )
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
