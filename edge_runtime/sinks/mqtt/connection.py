"""Publish to an MQTT broker from a thread that reconnects: queued messages, one session at a time, backoff.

paho's own thread is not used: it hides why a connection failed, ends when a broker sends invalid data, and has no
bound on its queue while nothing is acknowledged. `aiomqtt` is not used because it leaves reconnecting and the queue
to its caller: `Outbox`, with one retained payload for each topic, would stay, and an asyncio loop would be added.
"""

from __future__ import annotations

import contextlib
import math
import random
import select
import socket
import ssl
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from paho.mqtt import MQTTException
from paho.mqtt.client import MQTT_ERR_SUCCESS, Client, MQTTMessage, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

from edge_runtime.platform.net import RetryPolicy, network_error
from edge_runtime.sinks.mqtt.options import PASSWORD_VARIABLE, MqttOptions

EVENTS = 64
MAX_UNACKNOWLEDGED = 16
MAX_PACKET_BYTES = 1 << 16
HELLO_TIMEOUT_S = 10.0
CLOSE_DEADLINE_S = 2.0
_SILENCE_S = 10.0
_STEP_S = 1.0
_STABLE_S = 10.0  # a longer session starts the backoff again
_SHORT_SESSIONS = 3
_BIRTH_INTERVAL_S = 5.0
_BIRTH = b"online"
_RECEIVE_BUFFER_BYTES = 1 << 14
# Exceptions that paho passes on for a packet that it cannot parse.
_INVALID_PACKET = (MQTTException, ValueError, LookupError, TypeError, AttributeError, RuntimeError, struct.error)


@dataclass(frozen=True)
class Message:
    """A topic and its payload; the broker stores a retained message for later subscribers."""

    topic: str
    payload: bytes
    retain: bool


@dataclass
class _Topic:
    make: Callable[[], bytes]
    retain: bool
    due_s: float | None
    sent_s: float = -math.inf


class Outbox:
    """Messages to publish, put by the camera's thread and taken by the publishing thread; times as `time.monotonic`.

    Its size is bounded: each topic has one payload, which is made when it is sent, and the oldest event is dropped.

    Args:
        events: Largest number of waiting events.
    """

    def __init__(self, events: int = EVENTS) -> None:
        self._lock = threading.Lock()
        self._topics: dict[str, _Topic] = {}
        self._events: deque[Message] = deque()
        self._capacity = events
        self.dropped = 0

    def keep(self, topic: str, make: Callable[[], bytes], *, retain: bool = True) -> None:
        """Set the payload of a topic and make it due; topics are sent in the order of their first calls."""
        with self._lock:
            known = self._topics.get(topic)
            if known:
                known.make, known.due_s = make, 0.0
            else:
                self._topics[topic] = _Topic(make, retain, 0.0)

    def touch(self, topic: str, gap_s: float) -> None:
        """Make a topic due again, ``gap_s`` seconds after it was last sent at the earliest."""
        with self._lock:
            kept = self._topics[topic]
            due_s = kept.sent_s + gap_s
            kept.due_s = due_s if kept.due_s is None else min(kept.due_s, due_s)

    def resend(self) -> None:
        """Make all retained topics due, because the broker may have lost them."""
        with self._lock:
            for kept in self._topics.values():
                kept.due_s = 0.0 if kept.retain else kept.due_s

    def add_event(self, message: Message) -> None:
        """Queue an event."""
        with self._lock:
            if len(self._events) == self._capacity:
                self._events.popleft()
                self.dropped += 1
            self._events.append(message)

    def requeue(self, messages: Iterable[Message]) -> None:
        """Queue unacknowledged events again, oldest first; `resend` covers retained topics."""
        events = [message for message in messages if not message.retain]
        with self._lock:
            for message in reversed(events):
                if message.topic in self._topics:
                    continue
                if len(self._events) == self._capacity:
                    self.dropped += 1
                else:
                    self._events.appendleft(message)

    def take(self, now_s: float) -> Message | None:
        """Remove and return the next message that is due, or None."""
        with self._lock:
            due = (item for item in self._topics.items() if item[1].due_s is not None and item[1].due_s <= now_s)
            topic, kept = next(due, (None, None))
            if topic is None or kept is None:
                return self._events.popleft() if self._events else None
            kept.due_s, kept.sent_s = None, now_s
            make = kept.make
        return Message(topic, make(), kept.retain)

    def wait_s(self, now_s: float) -> float:
        """Return the seconds until a message is due: 0 if one is, infinity if none waits."""
        with self._lock:
            if self._events:
                return 0.0
            due = [kept.due_s for kept in self._topics.values() if kept.due_s is not None]
        return max(0.0, min(due) - now_s) if due else math.inf

    def drop_all(self) -> None:
        """Drop all waiting events, at the end of the connection."""
        with self._lock:
            self.dropped += len(self._events)
            self._events.clear()


class RefusedError(ConnectionError):
    """The broker rejected the user name, password or client id."""


class BrokerSession:
    """One connection to the broker; its methods raise OSError when it is lost, and then only `close` is of use.

    Args:
        options: Address, credentials and intervals of the broker.
        context: TLS settings, or None.
        client_id: Identifier of this client, of which the broker accepts one connection.
        will: Last will, which the broker publishes when the connection is lost.
        birth_topic: Topic on which Home Assistant announces its start, or None.
    """

    def __init__(
        self,
        options: MqttOptions,
        context: ssl.SSLContext | None,
        client_id: str,
        will: Message,
        birth_topic: str | None,
    ) -> None:
        self.connected = False
        self.birth_received = False
        self._options, self._birth_topic = options, birth_topic
        self._refusal: str | None = None
        self._waiting: dict[int, tuple[Message, float]] = {}
        self._client = Client(
            CallbackAPIVersion.VERSION2, client_id=client_id, protocol=MQTTv311, reconnect_on_failure=False
        )
        self._client.on_connect = self._on_connect
        self._client.on_publish = self._on_publish
        self._client.on_message = self._on_message
        self._client.will_set(will.topic, will.payload, qos=1, retain=will.retain)
        if options.username:
            self._client.username_pw_set(options.username, options.password)
        if context:
            self._client.tls_set_context(context)

    def open(self) -> None:
        """Connect and send CONNECT; the broker's CONNACK is handled by a later `step`."""
        self._client.connect_async(self._options.host, self._options.port, self._options.keepalive_s)
        self._client.reconnect()
        sock = self._client.socket()
        if isinstance(sock, socket.socket):
            # Limits what paho reads of a packet before `_check` sees its claimed length.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)

    def send(self, message: Message) -> None:
        """Send a message; it is `unacknowledged` until the broker confirms it."""
        info = self._client.publish(message.topic, message.payload, qos=1, retain=message.retain)
        self._waiting[info.mid] = (message, time.monotonic())

    def step(self, wake: socket.socket, timeout_s: float) -> None:
        """Wait for the broker or for a byte on ``wake``, and handle what was received."""
        sock = self._client.socket()
        if not isinstance(sock, socket.socket):
            raise ConnectionError("the broker closed the connection")
        pending = isinstance(sock, ssl.SSLSocket) and sock.pending() > 0
        poller = select.poll()
        poller.register(sock, select.POLLIN | (select.POLLOUT if self._client.want_write() else 0))
        poller.register(wake, select.POLLIN)
        ready = dict(poller.poll(0 if pending else timeout_s * 1e3))
        if wake.fileno() in ready:
            wake.recv(4096)
        events = ready.get(sock.fileno(), 0)
        try:
            if pending or events & ~select.POLLOUT:
                self._check(self._client.loop_read())
            if self._client.want_write():
                self._check(self._client.loop_write())
            self._check(self._client.loop_misc())
        except _INVALID_PACKET as error:
            raise ConnectionError("the server does not speak MQTT; is this the port of a broker?") from error

    def unacknowledged(self) -> list[Message]:
        """Return messages that were sent and not acknowledged, oldest first."""
        return [message for message, _ in self._waiting.values()]

    def unacknowledged_s(self, now_s: float) -> float:
        """Return the seconds since the oldest unacknowledged message was sent; 0 without one."""
        return now_s - next(iter(self._waiting.values()))[1] if self._waiting else 0.0

    def disconnect(self) -> None:
        """Send DISCONNECT, so that the broker does not publish the will, and close."""
        self._client.disconnect()
        self.close()

    def close(self) -> None:
        """Close the socket; calling it again does nothing."""
        sock = self._client.socket()
        if sock is not None:
            sock.close()

    def _check(self, code: int) -> None:
        if self._refusal:
            raise RefusedError(self._refusal)
        if code != MQTT_ERR_SUCCESS:
            raise ConnectionError("the broker closed the connection or does not answer")
        # paho's own limit is 256 MiB, and it has no public name for the length.
        if self._client._in_packet["remaining_length"] > MAX_PACKET_BYTES:
            raise ConnectionError(f"the server sends a message of more than {MAX_PACKET_BYTES} bytes")

    def _on_connect(self, client: Client, _data: object, _flags: object, reason: ReasonCode, *_: object) -> None:
        if reason.is_failure:
            self._refusal = str(reason)
            return
        self.connected = True
        if self._birth_topic:
            client.subscribe(self._birth_topic)

    def _on_publish(self, _client: Client, _data: object, mid: int, *_: object) -> None:
        self._waiting.pop(mid, None)

    def _on_message(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        self.birth_received |= message.topic == self._birth_topic and message.payload == _BIRTH


class MqttConnection:
    """The publishing thread: opens a `BrokerSession`, sends the outbox, and reconnects after every loss.

    Args:
        options: Address, credentials and intervals of the broker.
        context: TLS settings, or None.
        client_id: Identifier of this client, unique for the broker.
        outbox: Messages to send.
        will: Last will, which the broker publishes when the connection is lost.
        on_problem: Called from the thread with the current problem in one sentence, or with None.
    """

    def __init__(
        self,
        options: MqttOptions,
        context: ssl.SSLContext | None,
        client_id: str,
        outbox: Outbox,
        will: Message,
        on_problem: Callable[[str | None], None],
    ) -> None:
        self._options, self._context, self._client_id = options, context, client_id
        self._outbox, self._will, self._on_problem = outbox, will, on_problem
        self._birth_topic = f"{options.discovery_prefix}/status" if options.discovery_prefix else None
        self._closing = threading.Event()
        self._closing_at_s = 0.0
        self._short_sessions = 0
        self._wake_in, self._wake_out = socket.socketpair()
        for end in (self._wake_in, self._wake_out):
            end.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="sink mqtt", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Make the thread check the outbox at once."""
        with contextlib.suppress(OSError):  # the buffer is full of wake-ups already, or the thread has ended
            self._wake_in.send(b"\0")

    def close(self) -> None:
        """Send what is due, for at most `CLOSE_DEADLINE_S` seconds, and disconnect; again does nothing."""
        if self._closing.is_set():
            return
        self._closing_at_s = time.monotonic()
        self._closing.set()
        self.wake()
        self._thread.join(CLOSE_DEADLINE_S + _STEP_S)

    def _run(self) -> None:
        retry = RetryPolicy(*self._options.retry_s)
        while not self._closing.is_set():
            session = BrokerSession(self._options, self._context, self._client_id, self._will, self._birth_topic)
            start_s = time.monotonic()
            try:
                self._serve(session)
            except OSError as error:
                self._on_problem(self._describe(error, session, time.monotonic() - start_s))
            finally:
                self._outbox.requeue(session.unacknowledged())
                session.close()
            if session.connected and time.monotonic() - start_s > _STABLE_S:
                retry.reset()
            self._closing.wait(retry.next_s())
        self._outbox.drop_all()
        self._wake_in.close()
        self._wake_out.close()

    def _serve(self, session: BrokerSession) -> None:
        session.open()
        connect_until_s = time.monotonic() + HELLO_TIMEOUT_S
        while not session.connected:
            if self._closing.is_set():
                return
            if time.monotonic() > connect_until_s:
                raise TimeoutError(f"no answer within {HELLO_TIMEOUT_S:g} s; is this the port of a broker?")
            session.step(self._wake_out, _STEP_S)
        self._on_problem(None)
        self._outbox.resend()
        resend_s = last_resend_s = 0.0
        while not self._closing.is_set() or not self._all_sent(session):
            now_s = time.monotonic()
            if session.birth_received and not resend_s:
                # Home Assistant asks for a random delay, so that not all devices answer at once.
                resend_s = max(now_s + random.uniform(0.0, 1.0), last_resend_s + _BIRTH_INTERVAL_S)  # noqa: S311  no secret
            if resend_s and now_s >= resend_s:
                self._outbox.resend()
                session.birth_received, resend_s, last_resend_s = False, 0.0, now_s
            while len(session.unacknowledged()) < MAX_UNACKNOWLEDGED and (message := self._outbox.take(now_s)):
                session.send(message)
            full = len(session.unacknowledged()) >= MAX_UNACKNOWLEDGED
            session.step(self._wake_out, _STEP_S if full else min(_STEP_S, self._outbox.wait_s(time.monotonic())))
            silent = session.unacknowledged_s(time.monotonic()) > _SILENCE_S
            silence = f"{self._options.shown}: the broker has acknowledged nothing for {_SILENCE_S:g} s"
            self._on_problem(silence if silent else None)
        session.disconnect()

    def _all_sent(self, session: BrokerSession) -> bool:
        now_s = time.monotonic()
        if now_s > self._closing_at_s + CLOSE_DEADLINE_S:
            return True
        return self._outbox.wait_s(now_s) > 0 and not session.unacknowledged()

    def _describe(self, error: OSError, session: BrokerSession, lasted_s: float) -> str:
        self._short_sessions = self._short_sessions + 1 if session.connected and lasted_s < _STABLE_S else 0
        if self._short_sessions >= _SHORT_SESSIONS:
            return (
                f"{self._options.shown}: the broker ends each connection at once; another program may be connected "
                f"as {self._client_id}: give this camera another name"
            )
        if isinstance(error, RefusedError):
            username = self._options.username
            who = f"user {username}" if username else "a connection without a user name"
            reason = f"the broker refuses {who} ({error}); check the user name and {PASSWORD_VARIABLE}"
        else:
            hints = (
                (socket.gaierror, "check the address and the network"),
                (ssl.SSLCertVerificationError, "name its authority's certificate, --mqtt-ca"),
                (ssl.SSLError, "is this the port for TLS?"),
                (ConnectionRefusedError, "is the broker running?"),
            )
            reason = "; ".join([network_error(error), *[hint for kind, hint in hints if isinstance(error, kind)][:1]])
        return f"{self._options.shown}: {reason}"
