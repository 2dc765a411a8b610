"""Raw measurements of one model, and the session with its measuring child."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray

from benchmarks.measuring.protocol import (
    Burst,
    CameraTrace,
    ChildFailure,
    ChildSpec,
    Memory,
    OfflineRun,
    Opened,
    Reply,
    Request,
    StageTimes,
    decode,
    encode,
)
from benchmarks.plan import SubjectPlan
from benchmarks.records import NotMeasured
from edge_runtime.errors import EdgeKitError, EngineError
from edge_runtime.strict import to_mapping


@dataclass(frozen=True)
class Start:
    """One cold start, in nanoseconds since the moment before the process was made.

    Attributes:
        interpreter_ns: Until the child's first line of Python.
        import_ns: Importing the libraries.
        load_ns: Opening the model.
        first_ns: Decoding, preparing and classifying the first image.
    """

    interpreter_ns: int
    import_ns: int
    load_ns: int
    first_ns: int

    @property
    def total_ns(self) -> int:
        """The whole start."""
        return self.interpreter_ns + self.import_ns + self.load_ns + self.first_ns


@dataclass
class Measurement:
    """What was seen of one subject; filled while the schedule runs.

    Attributes:
        plan: The subject.
        error: Why it was not measured, or None. Then nothing below may be relied on.
        runtime: Runtime and version.
        delegate: What runs the operators, or None.
        tensorflow_loaded: Whether TensorFlow, Keras or JAX was in the process.
        probabilities: float32 [images, labels], or None.
        starts: Cold starts.
        bursts: Single-stream bursts; index i is round i of the whole benchmark, over all sessions, for every subject.
        stages: Or None.
        offline: Bursts of the offline scenario.
        camera: Or None.
        threads: Bursts by thread count.
        memory: After the single-stream bursts of the last session, or None.
        energy_mj: Energy above idle of all timed calls of the metered bursts, and how many calls these were; or None.
        not_measured: What could not be measured though it was asked for, or does not apply.
    """

    plan: SubjectPlan
    error: str | None = None
    runtime: str = ""
    delegate: str | None = None
    tensorflow_loaded: bool = False
    probabilities: NDArray[np.float32] | None = None
    starts: list[Start] = field(default_factory=list)
    bursts: list[Burst] = field(default_factory=list)
    stages: StageTimes | None = None
    offline: list[OfflineRun] = field(default_factory=list)
    camera: CameraTrace | None = None
    threads: dict[int, list[Burst]] = field(default_factory=dict)
    memory: Memory | None = None
    energy_mj: tuple[float, int] | None = None
    not_measured: list[NotMeasured] = field(default_factory=list)


_ReplyT = TypeVar("_ReplyT", bound=Reply)

# Keras is measured on the processor too: a GPU in the workstation says nothing about the device.
_KERAS_ENVIRONMENT = {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
_END_S = 10.0
_MAX_REPLY_BYTES = 1 << 28
_STDERR_BYTES = 1 << 14
# What TensorFlow, Abseil, LiteRT and Python's warnings write beside an error: it does not explain one.
_NOISE = re.compile(
    r"([IWEF]\d{4} |\d{4}-\d\d-\d\d [\d:.]+: [IWE] |WARNING: All log messages|(INFO|WARNING): |.*Warning: )"
)
_EXCEPTION = re.compile(r"[\w.]*(Error|Exception|Interrupt|Exit)\b")


class Session:
    """A fresh process with one model open; a context manager that ends it.

    Args:
        plan: The model and the program that opens it.
        threads: Threads inside one inference.
        image: The image file of its first answer.
        folder: Scratch folder, also the child's working directory, so that a file called ``numpy.py`` in the user's
            own is not imported.
        timeout_s: After so many seconds without an answer, to any request, the child is killed.

    Attributes:
        opened: What the child said when it had answered its first image.
        start: How long that took.

    Raises:
        EngineError: The model could not be opened, or the child crashed, was killed, or gave no answer in time.
    """

    def __init__(self, plan: SubjectPlan, *, threads: int, image: Path, folder: Path, timeout_s: float) -> None:
        self._timeout_s, self._buffer, self._end_reason = timeout_s, b"", ""
        spec = ChildSpec(str(plan.model), plan.name, threads, str(image.resolve()))
        self._stderr: BinaryIO = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed with the session
        self._replies_fd, child_fd = os.pipe()
        command = [sys.executable, "-m", plan.module, json.dumps(to_mapping(spec)), str(child_fd)]
        spawned_ns = time.monotonic_ns()
        try:
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                env=child_environment(plan, os.environ),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=self._stderr,
                pass_fds=(child_fd,),
            )
        except OSError as error:
            self._stderr.close()
            os.close(self._replies_fd)
            raise EngineError(f"its process could not be started ({error.strerror})") from error
        finally:
            os.close(child_fd)
        try:
            self.opened = self._receive(Opened)
        except BaseException:  # Ctrl-C too
            self.close()
            raise
        self.start = start_of(spawned_ns, self.opened)

    def ask(self, request: Request, expected: type[_ReplyT]) -> _ReplyT:
        """Send a request and wait for its reply.

        Raises:
            EngineError: The child could not do it, or it crashed or was stopped, now or before; after a crash or a
                timeout the session stays dead.
        """
        if self._end_reason or self._process.stdin is None:
            raise EngineError(f"its process had ended before: {self._end_reason}")
        # A child that has died says why on the other pipe, or with its exit code.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(encode(request).encode())
            self._process.stdin.flush()
        return self._receive(expected)

    def kill(self) -> None:
        """End the child at once; whoever waits for its reply in another thread gets EngineError."""
        self._process.kill()

    def close(self) -> None:
        """End the child, with force where it does not follow; calling it again does nothing."""
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        if not self._end_reason:
            self._end_reason = "it was closed"
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        finally:
            if self._process.poll() is None:  # Ctrl-C while waiting
                self._process.kill()
            self._stderr.close()
            if self._replies_fd >= 0:
                os.close(self._replies_fd)
                self._replies_fd = -1

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and not issubclass(kind, EngineError):
            self.kill()  # somebody is waiting to see this program end
        self.close()

    def _receive(self, expected: type[_ReplyT]) -> _ReplyT:
        line = self._read_line()
        try:
            message = decode(line)
        except EdgeKitError as error:
            raise self._dead(f"its process said what is no message: {error}") from error
        if isinstance(message, ChildFailure):
            raise EngineError(message.error)
        if not isinstance(message, expected):
            raise self._dead(f"its process said {type(message).__name__} where {expected.__name__} was expected")
        return message

    def _read_line(self) -> str:
        deadline_s = time.monotonic() + self._timeout_s
        poll = select.poll()
        poll.register(self._replies_fd, select.POLLIN)
        while b"\n" not in self._buffer:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0 or not poll.poll(left_s * 1000):
                raise self._dead(f"gave no answer within {self._timeout_s:g} s and was stopped; allow more: --timeout")
            chunk = os.read(self._replies_fd, 1 << 16)
            if not chunk:
                raise self._dead(None)
            self._buffer += chunk
            if len(self._buffer) > _MAX_REPLY_BYTES:
                raise self._dead(f"its process said more than {_MAX_REPLY_BYTES >> 20} MiB and was stopped")
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode(errors="replace")

    def _dead(self, reason: str | None) -> EngineError:
        """End the child and say why; None asks its exit code."""
        if reason is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_END_S)
        was_running = self._process.poll() is None
        self._process.kill()
        code = self._process.wait()
        if reason is None and was_running:
            reason = "its process stopped to answer and was stopped"
        self._end_reason = reason or describe_crash(code, self._last_words())
        return EngineError(self._end_reason)

    def _last_words(self) -> str:
        size = self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, size - _STDERR_BYTES))
        return self._stderr.read().decode(errors="replace")


def start_of(spawned_ns: int, opened: Opened) -> Start:
    """The parts of a cold start from the child's moments; ``spawned_ns`` is the moment before the process was made."""
    return Start(
        interpreter_ns=opened.started_ns - spawned_ns,
        import_ns=opened.imported_ns - opened.started_ns,
        load_ns=opened.loaded_ns - opened.imported_ns,
        first_ns=opened.answered_ns - opened.loaded_ns,
    )


def child_environment(plan: SubjectPlan, inherited: Mapping[str, str]) -> dict[str, str]:
    """The environment of a child."""
    return {**inherited, **(_KERAS_ENVIRONMENT if plan.is_keras else {})}


def describe_crash(code: int, stderr: str) -> str:
    """One sentence about a process that ended without an answer."""
    reason = _explaining_line([line.strip() for line in stderr.splitlines() if line.strip()])
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return f"its process was killed by {name} ({reason})"
    return f"its process failed with exit code {code} ({reason})"


def _explaining_line(lines: Sequence[str]) -> str:
    telling = [line for line in lines if not _NOISE.match(line)]
    exceptions = [line for line in telling if _EXCEPTION.match(line)]
    found = (exceptions or telling)[-1:]
    return found[0][:300] if found else "it said nothing"
