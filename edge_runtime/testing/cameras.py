"""Fake network camera on this machine, scripted by a test."""

from __future__ import annotations

import contextlib
import functools
import socket
import threading
import time
from collections.abc import Callable
from typing import TypeAlias

import numpy as np

STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=f\r\n\r\n"
"""Start of the response of a camera that streams JPEGs."""

Send: TypeAlias = Callable[[bytes], None]
Script: TypeAlias = Callable[[int, bytes, Send], None]

_FPS = 30
_GREYS = 63


class FakeHttpCamera:
    """An HTTP server on loopback, as a context manager.

    Args:
        script: Function that runs for each connection in a thread of its own, with the index of the connection, its
            request and a function that sends bytes. When it returns, the connection is closed.
        port: Port number; 0 for any free port.
    """

    def __init__(self, script: Script, port: int = 0) -> None:
        self._script = script
        self._socket = socket.create_server(("127.0.0.1", port))
        self.port: int = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/cam"
        self._clients: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Close the port and every connection."""
        for one in (self._socket, *self._clients):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def __enter__(self) -> FakeHttpCamera:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client = self._socket.accept()[0]
                arguments = (client, len(self._clients))
                self._clients.append(client)
                threading.Thread(target=self._serve, args=arguments, daemon=True).start()

    def _serve(self, client: socket.socket, number: int) -> None:
        with client, contextlib.suppress(OSError):
            self._script(number, client.recv(1 << 16), client.sendall)


@functools.cache
def grey_jpeg(value: int, size_wh: tuple[int, int] = (64, 48)) -> bytes:
    """Encode an image of one grey value, 0..255."""
    import cv2

    return cv2.imencode(".jpg", np.full((size_wh[1], size_wh[0], 3), value, np.uint8))[1].tobytes()


def stream_part(data: bytes) -> bytes:
    """Encode one image of a stream that began with `STREAM_HEAD`."""
    return b"--f\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%b\r\n" % (len(data), data)


def grey_of(number: int) -> int:
    """Grey value of a frame of `steady_camera`, which repeats after 63 frames."""
    return number % _GREYS * 4 + 2


def steady_camera(_number: int, _request: bytes, send: Send) -> None:
    """Script of a camera of 30 frames a second whose n-th frame has the grey value ``grey_of(n)``."""
    send(STREAM_HEAD)
    start_s, frame = time.perf_counter(), 0
    while True:
        send(stream_part(grey_jpeg(grey_of(frame))))
        frame += 1
        time.sleep(max(0.0, start_s + frame / _FPS - time.perf_counter()))
