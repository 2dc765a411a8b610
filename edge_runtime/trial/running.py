"""A first inference in a child process: a native runtime can crash on a damaged model, and then takes all with it.

A child imports the runtime once and forks for each file, so that many files cost little more than one. A success is
remembered, see `edge_runtime.trial.memory`.
"""

from __future__ import annotations

import enum
import json
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_runtime import errors
from edge_runtime.errors import EdgeKitError, EngineError, IntegrityError
from edge_runtime.trial import memory as trial_memory

_START_TIMEOUT_S = 120.0
# Isolated from the environment and the working directory, with the same search path as this process.
_PROGRAM = "import sys; sys.path[:] = sys.argv[1:]; from edge_runtime.trial.child import main; main()"


class Outcome(str, enum.Enum):
    """How a trial ended."""

    OK = "ok"
    REFUSED = "refused"  # by the structural check or by the runtime, with a reason
    CRASHED = "crashed"  # it took the process down
    TIMED_OUT = "timed out"


@dataclass(frozen=True)
class Trial:
    """One model that was tried.

    Attributes:
        path: The file.
        outcome: How it ended.
        reason: For a person: the runtime's sentence, the signal, or the time; None where all went well.
        error: Name of the error class of a refusal; None otherwise.
    """

    path: Path
    outcome: Outcome
    reason: str | None = None
    error: str | None = None

    @property
    def ok(self) -> bool:
        """Whether it can be opened in this process."""
        return self.outcome is Outcome.OK


def try_models(paths: Sequence[Path], engine: str = "auto", *, timeout_s: float = 60.0) -> list[Trial]:
    """Open each file in a child process and run pictures of zeros, of 255 and of noise through it.

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
    trials = [Trial(path, Outcome.CRASHED, ended) for path in paths]
    for answer in answers:
        index = int(answer["index"])
        trials[index] = Trial(paths[index], Outcome(answer["outcome"]), answer["reason"], answer["error"])
    return trials


def require_trial(path: Path, engine: str, runtime: str) -> None:
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
    trial_memory.remember(path, runtime)


def _error(trial: Trial, runtime: str) -> EdgeKitError:
    if trial.outcome is Outcome.CRASHED:
        return IntegrityError(
            f"{trial.path}: crashed {runtime} in a trial run ({trial.reason}), so it is damaged or not made for this "
            "runtime; copy or export it again"
        )
    if trial.outcome is Outcome.TIMED_OUT:
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
        f"set {trial_memory.OFF_VARIABLE}=off to open it without a trial"
    )
