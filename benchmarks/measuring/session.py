"""Session with a measuring child: start it, send requests, and explain its crash."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

from benchmarks.measuring.protocol import ChildFailure, ChildSpec, Opened, Reply, Request, decode, encode
from benchmarks.plan import SubjectPlan
from edge_runtime.errors import EdgeKitError, EngineError
from edge_runtime.model.bundle import SANDBOX_VARIABLE
from edge_runtime.platform.childproc import isolated_command, signal_name
from edge_runtime.strict import to_mapping

_ReplyT = TypeVar("_ReplyT", bound=Reply)

# Keras is measured on the CPU too: a GPU in the workstation tells nothing about the device.
_KERAS_ENVIRONMENT = {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
_MAX_REPLY_BYTES = 1 << 28
_STDERR_BYTES = 1 << 14
# Log lines of TensorFlow, Abseil, LiteRT and Python's warnings, which do not explain an error.
_NOISE = re.compile(
    r"([IWEF]\d{4} |\d{4}-\d\d-\d\d [\d:.]+: [IWE] |WARNING: All log messages|(INFO|WARNING): |.*Warning: )"
)
_EXCEPTION = re.compile(r"[\w.]*(Error|Exception|Interrupt|Exit)\b")


@dataclass(frozen=True)
class Start:
    """One cold start, in nanoseconds from the moment before the process was made.

    Attributes:
        interpreter_ns: Time until the child's first line of Python.
        import_ns: Time to import the libraries.
        load_ns: Time to open the model.
        first_ns: Time to decode, prepare and classify the first image.
    """

    interpreter_ns: int
    import_ns: int
    load_ns: int
    first_ns: int

    @property
    def total_ns(self) -> int:
        """Duration of the whole start."""
        return self.interpreter_ns + self.import_ns + self.load_ns + self.first_ns


class Session:
    """A fresh process with one model open; a context manager that ends it.

    Args:
        plan: Model and the program that opens it.
        threads: Threads inside one inference.
        image: Image file of its first answer.
        folder: Scratch folder, also the child's working directory.
        timeout_s: Longest wait for any reply, in seconds; the child is killed after it.
        end_s: Longest wait for the child's own end, in seconds.

    Attributes:
        opened: First message of the child, sent after it answered its first image.
        start: Duration of the cold start and its parts.

    Raises:
        EngineError: The model could not be opened, or the child crashed, was killed, or gave no answer in time.
    """

    def __init__(
        self, plan: SubjectPlan, *, threads: int, image: Path, folder: Path, timeout_s: float, end_s: float = 10.0
    ) -> None:
        self._timeout_s, self._end_s, self._buffer, self._end_reason = timeout_s, end_s, b"", ""
        spec = ChildSpec(str(plan.model), plan.name, threads, str(image.resolve()))
        self._stderr: BinaryIO = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed with the session
        self._replies_fd, child_fd = os.pipe()
        command = isolated_command(plan.module, json.dumps(to_mapping(spec)), str(child_fd))
        spawned_ns = time.monotonic_ns()
        try:
            self._process = subprocess.Popen(
                command, cwd=folder, env=child_environment(plan, os.environ), pass_fds=(child_fd,),
                stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=self._stderr,
            )  # fmt: skip
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
        self.start = Start(
            interpreter_ns=self.opened.started_ns - spawned_ns,
            import_ns=self.opened.imported_ns - self.opened.started_ns,
            load_ns=self.opened.loaded_ns - self.opened.imported_ns,
            first_ns=self.opened.answered_ns - self.opened.loaded_ns,
        )

    @property
    def pid(self) -> int:
        """Process ID of the child."""
        return self._process.pid

    def ask(self, request: Request, expected: type[_ReplyT]) -> _ReplyT:
        """Send a request and wait for its reply.

        Raises:
            EngineError: The request failed, or the child crashed or was stopped, now or before; after a crash or a
                timeout every request fails.
        """
        if self._end_reason or self._process.stdin is None:
            raise EngineError(f"its process had ended before: {self._end_reason}")
        # A child that has died gives the reason on the other pipe, or by its exit code.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(encode(request).encode())
            self._process.stdin.flush()
        return self._receive(expected)

    def kill(self) -> None:
        """End the child at once; a thread that waits for its reply gets EngineError."""
        self._process.kill()

    def close(self) -> None:
        """End the child, by force if it does not end itself; repeated calls do nothing."""
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        self._end_reason = self._end_reason or "it was closed"
        try:
            self._process.wait(self._end_s)
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

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and not issubclass(kind, EngineError):
            self.kill()  # Ctrl-C must not wait for the child
        self.close()

    def _receive(self, expected: type[_ReplyT]) -> _ReplyT:
        line = self._read_line()
        try:
            message = decode(line)
        except EdgeKitError as error:
            raise self._dead(f"its process sent an invalid message: {error}") from error
        if isinstance(message, ChildFailure):
            raise EngineError(message.error)
        if not isinstance(message, expected):
            raise self._dead(f"its process sent {type(message).__name__} instead of {expected.__name__}")
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
                raise self._dead(f"its process sent more than {_MAX_REPLY_BYTES >> 20} MiB and was stopped")
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode(errors="replace")

    def _dead(self, reason: str | None) -> EngineError:
        """End the child and make the error; without a reason its exit code is described."""
        if reason is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(self._end_s)
            if self._process.poll() is None:
                reason = "its process closed its reply pipe and was stopped"
        self._process.kill()
        code = self._process.wait()
        self._stderr.seek(max(0, self._stderr.seek(0, os.SEEK_END) - _STDERR_BYTES))
        self._end_reason = reason or describe_crash(code, self._stderr.read().decode(errors="replace"))
        return EngineError(self._end_reason)


def child_environment(plan: SubjectPlan, inherited: Mapping[str, str]) -> dict[str, str]:
    """Make the environment of a child, which needs no sandbox in yet another process."""
    return {**inherited, SANDBOX_VARIABLE: "off", **(_KERAS_ENVIRONMENT if plan.is_keras else {})}


def describe_crash(code: int, stderr: str) -> str:
    """Describe in one sentence a process that ended without an answer."""
    lines = [text for line in stderr.splitlines() if (text := line.strip()) and not _NOISE.match(text)]
    exceptions = [line for line in lines if _EXCEPTION.match(line)]
    reason = (exceptions or lines or ["no error output"])[-1][:300]
    if code < 0:
        return f"its process was killed by {signal_name(-code)} ({reason})"
    return f"its process failed with exit code {code} ({reason})"
