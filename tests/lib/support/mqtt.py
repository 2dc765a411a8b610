"""MQTT brokers of the tests' own: mosquitto, and a small one that misbehaves as a test wants."""

import contextlib
import os
import shutil
import signal
import socket
import struct
import subprocess
import threading

import pytest

from support.http import free_port
from support.waiting import wait_until

_PROGRAM = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin")
needs_mosquitto = pytest.mark.skipif(_PROGRAM is None, reason="mosquitto is not installed (apt install mosquitto)")


class Mosquitto:
    """A mosquitto on a free port that can be stopped and started again; it keeps nothing on disk.

    ``lines`` of its configuration are by default one that lets anybody connect.
    """

    def __init__(self, folder, *lines):
        self.port = free_port()
        self.config = folder / "mosquitto.conf"
        # Started by root it becomes another user, who cannot read the files of a test.
        user = ["user root"] if os.getuid() == 0 else []
        listener = [f"listener {self.port} 127.0.0.1", "persistence false", *user]
        self.config.write_text("\n".join([*listener, *(lines or ["allow_anonymous true"])]) + "\n")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self):
        """Start the broker and wait until it listens."""
        command = [str(_PROGRAM), "-c", str(self.config)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(self._listens, "mosquitto")

    def _listens(self):
        assert self.process is not None
        assert self.process.poll() is None, "mosquitto ended at once"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False

    def stop(self):
        """Kill the broker, also a paused one."""
        if self.process:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()


class SmallBroker:
    """Serves one client at a time: accepts it, acknowledges, and remembers what was published.

    Attributes:
        messages: Topic, payload and retained flag of each message.
        hellos: Bodies of the CONNECT packets.
        connack: Bytes to answer a connection with.
        after_connack: Bytes to send right after that.
        acknowledges: False to leave messages without PUBACK.
    """

    def __init__(self, port=0):
        self.listener = socket.create_server(("127.0.0.1", port))
        self.port = self.listener.getsockname()[1]
        self.messages: list[tuple[str, bytes, bool]] = []
        self.hellos: list[bytes] = []
        self.connack = b"\x20\x02\x00\x00"
        self.after_connack = b""
        self.acknowledges = True
        self.connection: socket.socket | None = None
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self):
        while True:
            try:
                self.connection, _ = self.listener.accept()
            except OSError:
                return
            try:
                with self.connection, self.connection.makefile("rb") as stream:
                    while self._handle(self.connection, stream):
                        pass
            except (OSError, IndexError):
                continue  # the client has gone

    def _handle(self, connection, stream):
        first, length, shift, byte = stream.read(1), 0, 0, 128
        while byte >= 128:
            byte = stream.read(1)[0]
            length |= (byte & 127) << shift
            shift += 7
        body = stream.read(length)
        kind = first[0] >> 4
        if kind == 1:
            self.hellos.append(body)
            connection.sendall(self.connack + self.after_connack)
        elif kind == 3:
            end = 2 + struct.unpack("!H", body[:2])[0]
            self.messages.append((body[2:end].decode(), body[end + 2 :], bool(first[0] & 1)))
            if self.acknowledges:
                connection.sendall(b"\x40\x02" + body[end : end + 2])
        elif kind == 8:
            connection.sendall(b"\x90\x03" + body[:2] + b"\x00")
        elif kind == 12:
            connection.sendall(b"\xd0\x00")
        return kind != 14

    def publish(self, topic, payload):
        assert self.connection is not None
        body = struct.pack("!H", len(topic)) + topic.encode() + payload
        self.connection.sendall(bytes([0x30, len(body)]) + body)

    def on(self, topic):
        return [payload for name, payload, _ in list(self.messages) if name == topic]

    def drop(self):
        assert self.connection is not None
        with contextlib.suppress(OSError):  # the client may have gone first
            self.connection.shutdown(socket.SHUT_RDWR)

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        if self.connection:
            self.connection.close()
