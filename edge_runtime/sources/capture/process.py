"""Start, read and stop the capture process."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
import threading
import time
from collections.abc import Mapping
from typing import Any

from edge_runtime.errors import SourceError
from edge_runtime.platform.childproc import isolated_command, signal_name
from edge_runtime.platform.process import KEEP_VARIABLE
from edge_runtime.sources.base import Frame
from edge_runtime.sources.capture.messages import Failure, FailureKind, Opened, decode
from edge_runtime.sources.capture.shared_frames import FrameReader, create_memory

CHILD_MODULE = "edge_runtime.sources.capture.child"
_RECEIVE_BYTES = 1 << 14
# A process that hangs inside a driver can outlive SIGKILL; it is left to the kernel then.
_REAP_TIMEOUT_S = 2.0


class CaptureProcess:
    """Child process that captures one camera, stream or video.

    `close` may be called from another thread than `next_frame`, which then returns at once.

    Attributes:
        is_open: True once the child has opened the source.
        note: Settings that differ from the requested ones, or None.
        complaint: Reason why the latest images cannot be used; None after a good one.

    Args:
        spec: Source and options, see `edge_runtime.sources.capture.child.open_camera`.

    Raises:
        SourceError: The process cannot be started.
    """

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self.note: str | None = None
        self.complaint: str | None = None
        self.is_open = False
        self._failure: Failure | None = None
        self._rest = b""
        self._in_use = threading.Lock()
        self._closed = False
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._memory = create_memory()
        self._channel = ours
        try:
            self._process = _start({**spec, "channel": theirs.fileno(), "frames": self._memory})
        except OSError as error:
            ours.close()
            os.close(self._memory)
            raise SourceError(f"no process can be started to capture it ({error.strerror})") from error
        finally:
            theirs.close()
        self._reader = FrameReader(self._memory)
        self._poll = select.poll()
        self._poll.register(ours, select.POLLIN)

    @property
    def pid(self) -> int:
        """Process id of the child."""
        return self._process.pid

    def next_frame(self, until_s: float) -> Frame | Failure | None:
        """Wait for a frame newer than the last one taken.

        Args:
            until_s: Deadline by `time.perf_counter`, in seconds.

        Returns:
            The newest frame, which releases the previous one; the failure that ended the capture; or None at the
            deadline.
        """
        with self._in_use:
            while not self._closed:
                # Messages first: a frame that comes later sends another message, which ends the wait.
                self._failure = self._failure or self._read_messages()
                frame = self._reader.take()
                if frame or self._failure:
                    return frame or self._failure
                left_s = until_s - time.perf_counter()
                if left_s <= 0:
                    return None
                self._poll.poll(left_s * 1e3)
        return Failure("was closed")

    def newest_number(self) -> int:
        """Return the number of the last captured frame; -1 for none."""
        with self._in_use:
            return -1 if self._closed else self._reader.newest_number()

    def close(self) -> None:
        """Kill the child and release everything; repeated calls do nothing. A held frame stays readable."""
        self._process.kill()
        with self._in_use:
            if self._closed:
                return
            self._closed = True
            self._channel.close()
            os.close(self._memory)
            del self._reader
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_REAP_TIMEOUT_S)

    def __enter__(self) -> CaptureProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read_messages(self) -> Failure | None:
        """Read the child's new messages without waiting."""
        try:
            data = self._channel.recv(_RECEIVE_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        except ConnectionError:
            data = b""
        if not data:
            return self._ended()
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            message = decode(line)
            if isinstance(message, Failure):
                return message
            if isinstance(message, Opened):
                self.is_open, self.note = True, message.note
            else:
                self.complaint = message.complaint
        return None

    def _ended(self) -> Failure:
        """Describe the end of a child that sent no failure."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_REAP_TIMEOUT_S)
        code = self._process.returncode
        if code is not None and code < 0:
            return Failure(f"its capture process was killed ({signal_name(-code)})")
        return Failure(f"its capture process ended (exit code {code}; {KEEP_VARIABLE}=1 shows why)", FailureKind.LOST)


def _start(spec: Mapping[str, Any]) -> subprocess.Popen[bytes]:
    visible = None if os.environ.get(KEEP_VARIABLE) else subprocess.DEVNULL
    process = subprocess.Popen(
        isolated_command(CHILD_MODULE),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=visible,
        # The child only copies pixels; OpenBLAS would reserve memory for a thread per core.
        env={"OPENBLAS_NUM_THREADS": "1", **os.environ},
        pass_fds=(spec["channel"], spec["frames"]),
        # Ctrl-C at a terminal goes to the parent alone, which may still need this frame.
        start_new_session=True,
    )
    if process.stdin is not None:
        # Not as arguments, which every user of the machine can read: an address may hold a password.
        with contextlib.suppress(BrokenPipeError), process.stdin:
            process.stdin.write(json.dumps(spec).encode())
    return process
