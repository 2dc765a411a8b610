"""A camera run with a live page, and clients of the page."""

import http.client
import socket
import threading
import time

import numpy as np

from edge_runtime.pipeline.health import Health
from edge_runtime.results import Classified, Decision, FrameStamp, LatencyMs, Prediction, SourceState, StateChange
from edge_runtime.sinks.web.auth import WebAddress
from edge_runtime.sinks.web.sink import WebSink

GREY = np.full((720, 1280, 3), 90, np.uint8)
TOKEN = "the-right-token-of-many-letters"  # noqa: S105


class WebCamera:
    """Serves a live page; the test gives the results, or a thread does after `run`.

    Args:
        name: Display name of the camera.
        labels: Two labels of the model.
        port: Port of the page; 0 lets the system choose.
        token: Token of the page, or None.
        image: Frame of every result, uint8 [height, width, 3] RGB.
        fps: Results per second after `run`.
        options: More parameters of `WebSink`.
    """

    def __init__(self, *, name="Feeder", labels=("happy", "sad"), port=0, token=None, image=GREY, fps=30, **options):
        self.health, self.labels, self.number = Health(), labels, 0
        address = WebAddress("127.0.0.1", port)
        self.sink = WebSink(address, name=name, labels=labels, health=self.health, token=token, **options)
        self.port = int(self.sink.url.rstrip("/").rpartition(":")[2])
        self.slowest_s = 0.0
        self._image, self._fps = image, fps
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    def give(self, result, image=None):
        """Count and write a result, and note the CPU seconds of the slowest write."""
        self.health.add(result)
        start_s = time.thread_time()
        self.sink.write(result, image)
        self.slowest_s = max(self.slowest_s, time.thread_time() - start_s)

    def change(self, state=SourceState.CONNECTED, reason=None):
        self.give(StateChange("0", state, time.time(), reason))

    def answer(self, image=None, *, label=None, score=0.75, event=False):
        """Give the answer to the next frame; the second label unless another is given."""
        label = label or self.labels[1]
        other = self.labels[label == self.labels[0]]
        stamp = FrameStamp(self.number, self.number / self._fps, time.time(), 25.0)
        top = (Prediction(label, score), Prediction(other, 1 - score))
        result = Classified("0", top, LatencyMs(1.0, 2.0, 20.0), stamp, Decision(label, score, event))
        self.give(result, self._image if image is None else image)
        self.number += 1

    def step(self):
        self.answer()

    def run(self):
        self.change()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while not self._end.wait(1 / self._fps):
            self.step()

    def stop(self):
        """End the thread; the page stays."""
        self._end.set()
        if self._thread:
            self._thread.join()

    def close(self):
        self.stop()
        self.sink.close()

    def get(self, path, method="GET", **headers):
        """Send a request: status, headers and body of the response; ``_`` in names of headers is ``-``."""
        peer = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            peer.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
            response = peer.getresponse()
            return response.status, response.headers, response.read()
        finally:
            peer.close()

    def open_socket(self, request=b"", **options):
        peer = socket.create_connection(("127.0.0.1", self.port), timeout=30, **options)
        peer.sendall(request)
        return peer

    def raw(self, request, **options):
        """Send bytes and return all that comes until the server disconnects."""
        with self.open_socket(**options) as peer:
            answer = b""
            try:
                peer.sendall(request)
                while part := peer.recv(1 << 16):
                    answer += part
            except ConnectionError:
                pass  # it disconnected before the rest of the request
            return answer

    def status(self, path="/", **headers):
        """Send a GET request with these bytes of headers, and return the status."""
        lines = {"Host": "localhost", "Connection": "close", **{key.replace("_", "-"): headers[key] for key in headers}}
        text = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        return int(self.raw(f"GET {path} HTTP/1.1\r\n{text}\r\n".encode("utf-8", "surrogateescape"))[9:12])
