"""Notify systemd: ready, alive, stopping and a status line. Standard library only.

The protocol is one datagram a message to the socket that ``NOTIFY_SOCKET`` names; see sd_notify(3). Outside systemd
every call does nothing. No call blocks or raises: a service manager that does not listen must not stop a camera.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from types import TracebackType

_MOST_STATUS_CHARS = 200
# A third, so that two lost or late messages are survived; sd_watchdog_enabled(3) recommends at most half.
_ALIVE_PER_WATCHDOG = 3


class Notifier:
    """Messages to the service manager. For one thread, the loop that it speaks for.

    Args:
        address: Path of the socket, or its name after ``@`` for an abstract one; None sends nothing.
        watchdog_s: Seconds without `alive` after which the manager restarts the service; None where it does not watch.
        clock: Seconds by a clock that never jumps.
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
        """The notifier that ``NOTIFY_SOCKET`` and ``WATCHDOG_USEC`` ask for; a silent one outside systemd."""
        address = environment.get("NOTIFY_SOCKET", "")
        if not address.startswith(("/", "@")) or len(address) < 2:
            return cls(None)
        for_us = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        interval_us = environment.get("WATCHDOG_USEC", "")
        is_interval = interval_us.isascii() and interval_us.isdecimal() and int(interval_us) > 0
        return cls(address, int(interval_us) / 1e6 if for_us and is_interval else None)

    def ready(self, status: str | None = None) -> None:
        """The model is warm and the source is open: what depends on this service may start."""
        self._send("READY=1", status)

    def alive(self) -> None:
        """A result has come. Call it for each; few calls become messages, and a call costs well under a microsecond."""
        if self.watchdog_s is None:
            return
        now_s = self._clock()
        if now_s >= self._next_alive_s and self._send("WATCHDOG=1"):
            self._next_alive_s = now_s + self.watchdog_s / _ALIVE_PER_WATCHDOG

    def status(self, text: str) -> None:
        """One line for ``systemctl status``; the same line again is not sent."""
        if text != self._status:
            self._send(None, text)

    def stopping(self) -> None:
        """The service is ending on purpose."""
        self._send("STOPPING=1")

    def close(self) -> None:
        """Let go of the socket; calling it again does nothing."""
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
        """Send one datagram at once or not at all; whether it went."""
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
