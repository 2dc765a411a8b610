"""Start, read and stop the capture process."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_runtime.errors import SourceError
from edge_runtime.platform.process import KEEP_VARIABLE
from edge_runtime.sources.base import Frame
from edge_runtime.sources.capture.messages import Failure, FailureKind, Opened, decode
from edge_runtime.sources.capture.shared_frames import FrameReader, create_memory

CHILD_MODULE = "edge_runtime.sources.capture.child"
_RECEIVE_BYTES = 1 << 14
_REAP_TIMEOUT_S = 2.0
"""A process that hangs inside a driver can outlive SIGKILL; it is left to the kernel then."""


class CaptureProcess:
    """One child process with one opened camera, stream or video.

    `close` may be called from another thread than `next_frame`, which then returns at once.

    Attributes:
        is_open: Whether the child has opened it.
        note: What it gives instead of what was asked for, or None.
        complaint: What is wrong with images that come and cannot be used; None after a good one.

    Args:
        spec: What to open and how, as `edge_runtime.sources.capture.child.open_camera` reads it.

    Raises:
        SourceError: No process can be started.
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
            until_s: How long, by `time.perf_counter`.

        Returns:
            The newest frame, which gives back the one before; why there will be none; or None when the time is up.
        """
        with self._in_use:
            while not self._closed:
                # Messages first: a frame that comes after them sends another one, and wakes us.
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
        """Number of the last frame that it captured; -1 for none."""
        with self._in_use:
            return -1 if self._closed else self._reader.newest_number()

    def close(self) -> None:
        """Kill the child and let go of everything; calling it again does nothing.

        A frame that is still held stays readable.
        """
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
        """Read what the child has said since the last time, without waiting."""
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
        """The child is gone without a word."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_REAP_TIMEOUT_S)
        code = self._process.returncode
        if code is not None and code < 0:
            return Failure(f"its capture process was killed ({_signal_name(-code)})")
        return Failure(f"its capture process ended (exit code {code}; {KEEP_VARIABLE}=1 shows why)", FailureKind.LOST)


def _start(spec: Mapping[str, Any]) -> subprocess.Popen[bytes]:
    visible = None if os.environ.get(KEEP_VARIABLE) else subprocess.DEVNULL
    process = subprocess.Popen(
        [sys.executable, "-m", CHILD_MODULE],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=visible,
        # It only copies pixels; NumPy's library for matrices would take memory for a thread per core.
        env={"OPENBLAS_NUM_THREADS": "1", **os.environ},
        pass_fds=(spec["channel"], spec["frames"]),
        # python -m looks for modules in the current folder first, which is the user's and may hold any json.py.
        cwd=Path(__file__).parents[2],
        # Ctrl-C at a terminal is for the parent, which may still want this frame's answer.
        start_new_session=True,
    )
    if process.stdin is not None:
        # Not in its arguments, which everybody on the machine may read: an address can hold a password.
        with contextlib.suppress(BrokenPipeError), process.stdin:
            process.stdin.write(json.dumps(spec).encode())
    return process


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
