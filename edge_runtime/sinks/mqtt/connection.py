"""Publishing thread with reconnect: queued messages, one broker session, and retries after every loss.

paho's own thread is not used: it does not say why a connection failed, it ends when a broker sends nonsense, and its
queue of messages has no bound while nothing is acknowledged.
"""

from __future__ import annotations

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
from paho.mqtt.client import MQTT_ERR_SUCCESS, Client, ConnectFlags, MQTTMessage, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge_runtime.labels import shorten
from edge_runtime.sinks.mqtt.options import PASSWORD_VARIABLE, MqttOptions

EVENTS = 64


@dataclass(frozen=True)
class Message:
    """A topic and what is published there; a retained one is kept by the broker for those who come later."""

    topic: str
    payload: bytes
    retain: bool


@dataclass
class _Kept:
    make: Callable[[], bytes]
    retain: bool
    due_s: float | None
    sent_s: float = -math.inf


class Outbox:
    """Filled by the camera's thread, emptied by the network's; all times are by `time.monotonic`, in seconds.

    Its size has a bound: a topic holds one payload, made when it is sent, and of events the oldest is dropped.
    """

    def __init__(self, events: int = EVENTS) -> None:
        self._lock = threading.Lock()
        self._kept: dict[str, _Kept] = {}
        self._events: deque[Message] = deque()
        self._capacity = events
        self.dropped = 0

    def keep(self, topic: str, make: Callable[[], bytes], *, retain: bool = True) -> None:
        """Set what a topic says, and that it is due; the order of first calls is the order of sending."""
        with self._lock:
            known = self._kept.get(topic)
            if known:
                known.make, known.due_s = make, 0.0
            else:
                self._kept[topic] = _Kept(make, retain, 0.0)

    def touch(self, topic: str, gap_s: float) -> None:
        """A kept topic is to be sent again, ``gap_s`` seconds after the last time at the earliest."""
        with self._lock:
            kept = self._kept[topic]
            due_s = kept.sent_s + gap_s
            kept.due_s = due_s if kept.due_s is None else min(kept.due_s, due_s)

    def again(self) -> None:
        """Send all retained topics once more, since the broker may have forgotten them."""
        with self._lock:
            for kept in self._kept.values():
                kept.due_s = 0.0 if kept.retain else kept.due_s

    def tell(self, message: Message) -> None:
        """Add an event."""
        with self._lock:
            if len(self._events) == self._capacity:
                self._events.popleft()
                self.dropped += 1
            self._events.append(message)

    def give_back(self, messages: Iterable[Message]) -> None:
        """Take back events that were not acknowledged, oldest first; retained ones are sent again anyway."""
        events = [message for message in messages if not message.retain]
        with self._lock:
            for message in reversed(events):
                if message.topic in self._kept:
                    continue
                if len(self._events) == self._capacity:
                    self.dropped += 1
                else:
                    self._events.appendleft(message)

    def take(self, now_s: float) -> Message | None:
        """The next message that is due."""
        with self._lock:
            due = (item for item in self._kept.items() if item[1].due_s is not None and item[1].due_s <= now_s)
            topic, kept = next(due, (None, None))
            if topic is None or kept is None:
                return self._events.popleft() if self._events else None
            kept.due_s, kept.sent_s = None, now_s
            make = kept.make
        return Message(topic, make(), kept.retain)

    def wait_s(self, now_s: float) -> float:
        """Seconds until something is due; 0 where something is, infinite where nothing waits."""
        with self._lock:
            if self._events:
                return 0.0
            due = [kept.due_s for kept in self._kept.values() if kept.due_s is not None]
        return max(0.0, min(due) - now_s) if due else math.inf

    def abandon(self) -> None:
        """Nothing will be sent any more: what waits counts as dropped."""
        with self._lock:
            self.dropped += len(self._events)
            self._events.clear()


MAX_UNACKNOWLEDGED = 16
MAX_PACKET_BYTES = 1 << 16
_RECEIVE_BUFFER_BYTES = 1 << 14
_BIRTH = b"online"
# What paho lets through when a packet cannot be read.
_NONSENSE = (MQTTException, ValueError, LookupError, TypeError, AttributeError, RuntimeError, struct.error)


class RefusedError(ConnectionError):
    """The broker does not want us: user name, password, or client id."""


class BrokerSession:
    """A connection. Every method may raise OSError when it is lost; after that only `close` makes sense.

    Args:
        options: The broker.
        context: What checks its certificate, with TLS.
        client_id: As the broker knows us; it lets in one client of a name.
        will: What the broker publishes when we vanish.
        listen_to: A topic where Home Assistant says that it has started, or None.
    """

    def __init__(
        self, options: MqttOptions, context: ssl.SSLContext | None, client_id: str, will: Message, listen_to: str | None
    ) -> None:
        self.connected = False
        self.birth_heard = False
        self._options, self._listen_to = options, listen_to
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
        """Connect and say hello; the broker's answer comes in a later `step`."""
        self._client.connect_async(self._options.host, self._options.port, self._options.keepalive_s)
        self._client.reconnect()
        sock = self._client.socket()
        if isinstance(sock, socket.socket):
            # paho reads a packet as far as it has come before it can be seen how long it claims to be.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)

    def send(self, message: Message) -> None:
        """Send a message; it is `unacknowledged` until the broker has it."""
        info = self._client.publish(message.topic, message.payload, qos=1, retain=message.retain)
        self._waiting[info.mid] = (message, time.monotonic())

    def step(self, wake: socket.socket, timeout_s: float) -> None:
        """Wait for the broker, or for a byte on ``wake``, and handle what came."""
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
        except _NONSENSE as error:
            raise ConnectionError("it sent something that is not MQTT; is this the port of a broker?") from error

    def unacknowledged(self) -> list[Message]:
        """What was sent and may not have arrived, oldest first."""
        return [message for message, _ in self._waiting.values()]

    def silent_s(self, now_s: float) -> float:
        """Seconds since the oldest unacknowledged message was sent; 0 where there is none."""
        return now_s - next(iter(self._waiting.values()))[1] if self._waiting else 0.0

    def leave(self) -> None:
        """Say goodbye, so that the broker does not publish the will."""
        self._client.disconnect()
        self.close()

    def close(self) -> None:
        """Drop the connection; calling it again does nothing."""
        sock = self._client.socket()
        if sock is not None:
            sock.close()

    def _check(self, code: int) -> None:
        if self._refusal:
            raise RefusedError(self._refusal)
        if code != MQTT_ERR_SUCCESS:
            raise ConnectionError("the broker closed the connection or does not answer")
        # paho has no limit of its own short of 256 MiB, and nothing public that tells the length.
        if self._client._in_packet["remaining_length"] > MAX_PACKET_BYTES:
            raise ConnectionError(f"it sends a message of more than {MAX_PACKET_BYTES} bytes")

    def _on_connect(
        self, client: Client, _userdata: object, _flags: ConnectFlags, reason: ReasonCode, _properties: object
    ) -> None:
        if reason.is_failure:
            self._refusal = str(reason)
            return
        self.connected = True
        if self._listen_to:
            client.subscribe(self._listen_to)

    def _on_publish(
        self, _client: Client, _userdata: object, mid: int, _reason: ReasonCode, _properties: Properties
    ) -> None:
        self._waiting.pop(mid, None)

    def _on_message(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        self.birth_heard |= message.topic == self._listen_to and message.payload == _BIRTH


HELLO_TIMEOUT_S = 10.0
PATIENCE_S = 10.0
CLOSE_DEADLINE_S = 2.0
_STEP_S = 1.0
_SETTLED_S = 10.0
_SHORT_VISITS = 3
_BIRTH_GAP_S = 5.0


class MqttConnection:
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
            visit = BrokerSession(self._options, self._context, self._client_id, self._will, self._listen_to)
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

    def _serve(self, visit: BrokerSession) -> None:
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

    def _send_due(self, visit: BrokerSession, now_s: float) -> None:
        while len(visit.unacknowledged()) < MAX_UNACKNOWLEDGED:
            message = self._outbox.take(now_s)
            if message is None:
                break
            visit.send(message)

    def _pause_s(self, visit: BrokerSession) -> float:
        if len(visit.unacknowledged()) >= MAX_UNACKNOWLEDGED:
            return _STEP_S
        return min(_STEP_S, self._outbox.wait_s(time.monotonic()))

    def _watch(self, visit: BrokerSession) -> None:
        if visit.silent_s(time.monotonic()) > PATIENCE_S:
            self._tell(f"{self._options.shown}: the broker has acknowledged nothing for {PATIENCE_S:g} s")
        else:
            self._tell(None)

    def _all_said(self, visit: BrokerSession) -> bool:
        now_s = time.monotonic()
        if now_s > self._closing_at_s + CLOSE_DEADLINE_S:
            return True
        return self._outbox.wait_s(now_s) > 0 and not visit.unacknowledged()

    def _trouble(self, error: OSError, visit: BrokerSession, lasted_s: float) -> str:
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
