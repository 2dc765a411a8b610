"""Notify systemd: ready, alive, stopping and a status line. Standard library only.

The protocol is one datagram a message to the socket that ``NOTIFY_SOCKET`` names; see sd_notify(3). Outside systemd
every call does nothing. No call blocks or raises: an unresponsive service manager must not stop a camera.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from types import TracebackType

_MOST_STATUS_CHARS = 200
# A third, so that two messages may be lost or late; sd_watchdog_enabled(3) recommends at most half.
_ALIVE_PER_WATCHDOG = 3


class Notifier:
    """Messages to the service manager, for use in one thread.

    Args:
        address: Path of the socket, or its name after ``@`` for an abstract one; None sends nothing.
        watchdog_s: Seconds without `alive` after which the manager restarts the service; None without a watchdog.
        clock: Function that returns monotonic seconds.
    """

    def __init__(
        self, address: str | None, watchdog_s: float | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.watchdog_s = watchdog_s if address else None
        self._address = f"\0{address[1:]}" if address and address.startswith("@") else address
        self._clock = clock
        self._next_alive_s = float("-inf")
        self._status: str | None = None
        self._socket: socket.socket | None = None
        if address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Notifier:
        """Make the notifier for ``NOTIFY_SOCKET`` and ``WATCHDOG_USEC``; outside systemd it sends nothing."""
        address = environment.get("NOTIFY_SOCKET", "")
        if not address.startswith(("/", "@")) or len(address) < 2:
            return cls(None)
        for_us = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        interval_us = environment.get("WATCHDOG_USEC", "")
        is_interval = interval_us.isascii() and interval_us.isdecimal() and int(interval_us) > 0
        return cls(address, int(interval_us) / 1e6 if for_us and is_interval else None)

    def ready(self, status: str | None = None) -> None:
        """Report that the model is warm and the source is open, so that dependent services may start."""
        self._send("READY=1", status)

    def alive(self) -> None:
        """Report a result. Call it for each; few calls send a message, and a call takes well under a microsecond."""
        if self.watchdog_s is None:
            return
        now_s = self._clock()
        if now_s >= self._next_alive_s and self._send("WATCHDOG=1"):
            self._next_alive_s = now_s + self.watchdog_s / _ALIVE_PER_WATCHDOG

    def status(self, text: str) -> None:
        """Send one line for ``systemctl status``, unless it is the same as before."""
        if text != self._status:
            self._send(None, text)

    def stopping(self) -> None:
        """Report that the service is ending on purpose."""
        self._send("STOPPING=1")

    def close(self) -> None:
        """Close the socket; calling it again does nothing."""
        if self._socket:
            self._socket.close()
        self._socket, self.watchdog_s = None, None

    def __enter__(self) -> Notifier:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopping()
        self.close()

    def _send(self, state: str | None, status: str | None = None) -> bool:
        """Send one datagram without blocking, and return True if it was sent."""
        if self._socket is None or self._address is None:
            return False
        lines = [state] if state else []
        if status is not None:
            line = "".join(char if char.isprintable() else " " for char in status)[:_MOST_STATUS_CHARS]
            lines.append(f"STATUS={line}")
        try:
            self._socket.sendto("\n".join(lines).encode(errors="replace"), socket.MSG_DONTWAIT, self._address)
        except (OSError, ValueError):
            return False
        self._status = status if status is not None else self._status
        return True
