"""One connection to a broker, from the handshake to its loss, driven by one thread.

paho's own thread is not used: it does not say why a connection failed, it ends when a broker sends nonsense, and its
queue of messages has no bound while nothing is acknowledged.
"""

from __future__ import annotations

import select
import socket
import ssl
import struct
import time

from paho.mqtt import MQTTException
from paho.mqtt.client import MQTT_ERR_SUCCESS, Client, ConnectFlags, MQTTMessage, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge_runtime.sinks.mqtt.options import MqttOptions
from edge_runtime.sinks.mqtt.outbox import Message

MAX_UNACKNOWLEDGED = 16
MAX_PACKET_BYTES = 1 << 16
_RECEIVE_BUFFER_BYTES = 1 << 14
_BIRTH = b"online"
# What paho lets through when a packet cannot be read.
_NONSENSE = (MQTTException, ValueError, LookupError, TypeError, AttributeError, RuntimeError, struct.error)


class RefusedError(ConnectionError):
    """The broker does not want us: user name, password, or client id."""


class Visit:
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
