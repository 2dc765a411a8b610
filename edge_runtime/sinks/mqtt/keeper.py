"""The thread that keeps a broker told: connects, sends what is due, and comes back after every loss."""

from __future__ import annotations

import random
import socket
import ssl
import threading
import time
from collections.abc import Callable

from edge_runtime.labels import shorten
from edge_runtime.sinks.mqtt.options import PASSWORD_VARIABLE, MqttOptions
from edge_runtime.sinks.mqtt.outbox import Message, Outbox
from edge_runtime.sinks.mqtt.visit import MAX_UNACKNOWLEDGED, RefusedError, Visit

HELLO_TIMEOUT_S = 10.0
PATIENCE_S = 10.0
CLOSE_DEADLINE_S = 2.0
_STEP_S = 1.0
_SETTLED_S = 10.0
_SHORT_VISITS = 3
_BIRTH_GAP_S = 5.0


class Keeper:
    """Owns the thread and the connection.

    Args:
        options: The broker.
        context: For TLS.
        client_id: As the broker knows us.
        outbox: What to send.
        will: What the broker publishes when we vanish.
        tell: Called from the thread with what is wrong, or None once all is well again.
    """

    def __init__(
        self,
        options: MqttOptions,
        context: ssl.SSLContext | None,
        client_id: str,
        outbox: Outbox,
        will: Message,
        tell: Callable[[str | None], None],
    ) -> None:
        self._options, self._context, self._client_id = options, context, client_id
        self._outbox, self._will, self._tell = outbox, will, tell
        self._listen_to = f"{options.discovery_prefix}/status" if options.discovery_prefix else None
        self._closing = threading.Event()
        self._closing_at_s = 0.0
        self._short_visits = 0
        self._wake_in, self._wake_out = socket.socketpair()
        for end in (self._wake_in, self._wake_out):
            end.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="sink mqtt", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Have the thread look into the outbox at once."""
        try:
            self._wake_in.send(b"\0")
        except OSError:
            return  # so many bytes wait already that one more says nothing new, or the thread has ended

    def close(self) -> None:
        """Send what is due, for at most `CLOSE_DEADLINE_S` seconds, and say goodbye; again does nothing."""
        if self._closing.is_set():
            return
        self._closing_at_s = time.monotonic()
        self._closing.set()
        self.wake()
        self._thread.join(CLOSE_DEADLINE_S + _STEP_S)

    def _run(self) -> None:
        first_s, longest_s = self._options.retry_s
        pause_s = first_s
        while not self._closing.is_set():
            visit = Visit(self._options, self._context, self._client_id, self._will, self._listen_to)
            began_s = time.monotonic()
            try:
                self._serve(visit)
            except OSError as error:
                self._tell(self._trouble(error, visit, time.monotonic() - began_s))
            finally:
                self._outbox.give_back(visit.unacknowledged())
                visit.close()
            lasted = visit.connected and time.monotonic() - began_s > _SETTLED_S
            pause_s = first_s if lasted else pause_s
            # A house full of devices must not come back at the same instant after the broker's restart.
            self._closing.wait(pause_s * random.uniform(0.5, 1.0))  # noqa: S311  no secret
            pause_s = min(2 * pause_s, longest_s)
        self._outbox.abandon()
        self._wake_in.close()
        self._wake_out.close()

    def _serve(self, visit: Visit) -> None:
        visit.open()
        hello_until_s = time.monotonic() + HELLO_TIMEOUT_S
        while not visit.connected:
            if self._closing.is_set():
                return
            if time.monotonic() > hello_until_s:
                raise TimeoutError(f"it did not answer within {HELLO_TIMEOUT_S:g} s; is this the port of a broker?")
            visit.step(self._wake_out, _STEP_S)
        self._tell(None)
        self._outbox.again()
        again_s = last_again_s = 0.0
        while not self._closing.is_set() or not self._all_said(visit):
            now_s = time.monotonic()
            if visit.birth_heard and not again_s:
                # Home Assistant asks for some delay, so that not every device answers at once.
                again_s = max(now_s + random.uniform(0.0, 1.0), last_again_s + _BIRTH_GAP_S)  # noqa: S311  no secret
            if again_s and now_s >= again_s:
                self._outbox.again()
                visit.birth_heard, again_s, last_again_s = False, 0.0, now_s
            self._send_due(visit, now_s)
            visit.step(self._wake_out, self._pause_s(visit))
            self._watch(visit)
        visit.leave()

    def _send_due(self, visit: Visit, now_s: float) -> None:
        while len(visit.unacknowledged()) < MAX_UNACKNOWLEDGED:
            message = self._outbox.take(now_s)
            if message is None:
                break
            visit.send(message)

    def _pause_s(self, visit: Visit) -> float:
        if len(visit.unacknowledged()) >= MAX_UNACKNOWLEDGED:
            return _STEP_S
        return min(_STEP_S, self._outbox.wait_s(time.monotonic()))

    def _watch(self, visit: Visit) -> None:
        if visit.silent_s(time.monotonic()) > PATIENCE_S:
            self._tell(f"{self._options.shown}: the broker has acknowledged nothing for {PATIENCE_S:g} s")
        else:
            self._tell(None)

    def _all_said(self, visit: Visit) -> bool:
        now_s = time.monotonic()
        if now_s > self._closing_at_s + CLOSE_DEADLINE_S:
            return True
        return self._outbox.wait_s(now_s) > 0 and not visit.unacknowledged()

    def _trouble(self, error: OSError, visit: Visit, lasted_s: float) -> str:
        self._short_visits = self._short_visits + 1 if visit.connected and lasted_s < _SETTLED_S else 0
        if self._short_visits >= _SHORT_VISITS:
            return (
                f"{self._options.shown}: the broker ends each connection at once; perhaps another program is connected "
                f"as {self._client_id}, so give this camera another name"
            )
        return f"{self._options.shown}: {_words(error, self._options)}"


def _words(error: OSError, options: MqttOptions) -> str:
    if isinstance(error, RefusedError):
        who = f"user {options.username}" if options.username else "a connection without a user name"
        return f"the broker refuses {who} ({error}); check the user name and {PASSWORD_VARIABLE}"
    if isinstance(error, socket.gaierror):
        return f"the host cannot be found ({error.strerror}); check the address and the network"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted ({error.verify_message}); name its authority's certificate, --mqtt-ca"
    if isinstance(error, ssl.SSLError):
        return f"no secure connection ({error.reason or 'broken off'}); is this the port for TLS?"
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there; is the broker running?"
    # What Python or this package wrote; a timeout of Python's has only the words "timed out".
    return shorten(error.strerror or str(error) or type(error).__name__, 200)
