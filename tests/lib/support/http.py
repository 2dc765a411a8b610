"""Web servers on this machine that remember what they were sent, free ports and certificates."""

import contextlib
import http.server
import json
import shutil
import socket
import subprocess
import threading
import time

import pytest


def free_port():
    """Find a TCP port of the loopback address that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class Receiver(http.server.ThreadingHTTPServer):
    """Remembers POST requests and answers with the next of ``statuses``, the last one again and again.

    Attributes:
        requests: Path, headers and body of each request.
        statuses: HTTP status codes to answer with, in order.
        raw: Bytes to answer with in place of a status.
        drip_s: Seconds to wait after each of these bytes; 0 sends them together.
        hangs: Cleared to keep requests waiting for their answer.
    """

    daemon_threads = True

    def __init__(self, path="/api/webhook/t0ken?key=s3cret"):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.path = path
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.statuses = [200]
        self.raw: bytes | None = None
        self.drip_s = 0.0
        self.hangs = threading.Event()
        self.hangs.set()
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}{self.path}"

    def bodies(self):
        return [json.loads(body) for _, _, body in list(self.requests)]


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append((self.path, dict(self.headers), body))
        self.server.hangs.wait(60)
        if self.server.raw is not None:
            step = 1 if self.server.drip_s else len(self.server.raw) + 1
            with contextlib.suppress(ConnectionError):  # the client need not wait for all
                for start in range(0, len(self.server.raw), step):
                    self.wfile.write(self.server.raw[start : start + step])
                    time.sleep(self.server.drip_s)
            return
        statuses = self.server.statuses
        self.send_response(statuses.pop(0) if len(statuses) > 1 else statuses[0])
        self.send_header("Location", "http://127.0.0.1:1/elsewhere")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_):
        """Write nothing to standard error."""


def certificate(folder):
    """Make a certificate for localhost, signed by itself, and its key, or skip the test without openssl."""
    tool = shutil.which("openssl")
    if tool is None:
        pytest.skip("openssl is not installed")
    cert, key = folder / "cert.pem", folder / "key.pem"
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    command = [tool, "req", *kind, *names, "-keyout", key, "-out", cert]
    subprocess.run(command, check=True, capture_output=True)
    return cert, key
