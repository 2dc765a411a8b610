"""POST results to a web address as small JSON bodies, from a separate thread."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import os
import socket
import ssl
import threading
import time
import urllib.parse
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from edge_runtime.errors import UsageError
from edge_runtime.labels import shorten
from edge_runtime.platform.net import find_secret
from edge_runtime.results import Classified, Result, StateChange, to_record
from edge_runtime.sinks.background import BackgroundSink
from edge_runtime.sinks.base import Sink, is_news
from edge_runtime.sinks.rows import json_line
from edge_runtime.version import __version__

SECRET_VARIABLE = "EDGEKIT_WEBHOOK_SECRET"  # noqa: S105  the name of a variable
SECRET_CREDENTIAL = "webhook-secret"  # noqa: S105  the name of a credential
SIGNATURE_HEADER = "X-Edgekit-Signature"
DELIVERY_HEADER = "X-Edgekit-Delivery"
_DEFAULT_TIMEOUT_S = 5.0
_RETRY_AFTER_S = 1.0
_MAX_ANSWER_BYTES = 1024
_KEPT_IN_URL = "!$%&'()*+,/:;=?@[]~"
_BUSY = (408, 425, 429)


@dataclass(frozen=True)
class Target:
    """A checked web address.

    Attributes:
        shown: For messages: scheme, host and port only, since the rest is often as good as a password.
        tls: Whether it is https.
        host: Name or address.
        port: TCP port.
        path: Path and query as they are sent; never shown.
        authorization: Header for the user name and password of the address, or None; never shown.
    """

    shown: str
    tls: bool
    host: str
    port: int
    path: str = field(repr=False)
    authorization: str | None = field(default=None, repr=False)


class _TryAgainError(OSError):
    """Something that may pass: no connection, no answer, a server that is busy."""


class WebhookSink(Sink):
    """Posts each result as JSON and waits for the answer; `open` puts it into a thread, where it belongs.

    The body is `edge_runtime.results.to_record` with ``name`` and ``sent_at``, in Unix seconds. What fails in a way
    that may pass is sent once more, so a receiver may see one delivery twice; `DELIVERY_HEADER` is then the same.
    Redirects are not followed, proxies of the environment are not used, and images are not sent.

    Args:
        target: Where to; see `parse_webhook_url`.
        name: Of this camera.
        secret: Signs the body: `SIGNATURE_HEADER` is ``sha256=`` and the HMAC in hexadecimal. None does not sign.
        timeout_s: For one attempt from connection to answer, in seconds.
        retry_after_s: Pause before the second attempt, in seconds.
    """

    def __init__(
        self,
        target: Target,
        *,
        name: str,
        secret: str | None = None,
        timeout_s: float = _DEFAULT_TIMEOUT_S,
        retry_after_s: float = _RETRY_AFTER_S,
    ) -> None:
        self._target, self._name, self._secret = target, name, secret
        self._timeout_s, self._retry_after_s = timeout_s, retry_after_s
        self._context = ssl.create_default_context() if target.tls else None
        self._closed = threading.Event()

    @staticmethod
    def open(
        url: str,
        *,
        name: str,
        all_changes: bool = False,
        environment: Mapping[str, str] = os.environ,
        timeout_s: float = _DEFAULT_TIMEOUT_S,
        retry_after_s: float = _RETRY_AFTER_S,
    ) -> BackgroundSink:
        """Prepare a webhook in a thread of its own; nothing is sent yet.

        Args:
            url: ``https://host/path`` or ``http://``.
            name: Of this camera, in every body.
            all_changes: Besides events and states of the source, also the end of a decision.
            environment: Where `SECRET_VARIABLE` or systemd's credentials are looked for.
            timeout_s: For one attempt, in seconds.
            retry_after_s: Pause before the second attempt, in seconds.

        Raises:
            UsageError: An address that is not http or https, or a secret that cannot be read.
        """
        secret = find_secret(SECRET_VARIABLE, SECRET_CREDENTIAL, environment)
        target = parse_webhook_url(url)
        sink = WebhookSink(target, name=name, secret=secret, timeout_s=timeout_s, retry_after_s=retry_after_s)
        return BackgroundSink(sink, "webhook", wants=changes() if all_changes else is_news)

    def write(self, result: Result, image_hwc_rgb_u8: object = None) -> None:  # noqa: ARG002  images are not sent
        """Post one result.

        Raises:
            OSError: It was not accepted, in one sentence without the secret parts of the address.
        """
        body = self._body(result)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"edgekit/{__version__}",
            "Connection": "close",
            DELIVERY_HEADER: str(uuid.uuid4()),
        }
        if self._target.authorization:
            headers["Authorization"] = self._target.authorization
        if self._secret:
            headers[SIGNATURE_HEADER] = f"sha256={hmac.new(self._secret.encode(), body, hashlib.sha256).hexdigest()}"
        try:
            self._post(body, headers)
        except _TryAgainError:
            if self._closed.wait(self._retry_after_s):
                raise
            self._post(body, headers)

    def close(self) -> None:
        """Give up waiting for a second attempt."""
        self._closed.set()

    def _body(self, result: Result) -> bytes:
        try:
            record = {"name": self._name, "sent_at": round(time.time(), 3), **to_record(result)}
            return json_line(record).encode()
        except ValueError as error:
            raise OSError(f"{self._target.shown}: a result cannot be written as JSON ({error})") from error

    def _post(self, body: bytes, headers: Mapping[str, str]) -> None:
        shown = self._target.shown
        connection, began_s = self._connection(), time.monotonic()
        guard = threading.Timer(self._timeout_s, _cut, [connection])
        guard.daemon = True
        guard.start()
        try:
            connection.request("POST", self._target.path, body, dict(headers))
            response = connection.getresponse()
            response.read(_MAX_ANSWER_BYTES)
            if time.monotonic() - began_s >= self._timeout_s:
                # Half an answer, cut off by the guard, can look like a whole one.
                raise TimeoutError
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _failure(shown, error, self._timeout_s, time.monotonic() - began_s) from error
        finally:
            guard.cancel()
            connection.close()
        _check_status(shown, response.status)

    def _connection(self) -> http.client.HTTPConnection:
        host, port, timeout_s = self._target.host, self._target.port, self._timeout_s
        if self._context:
            return http.client.HTTPSConnection(host, port, timeout=timeout_s, context=self._context)
        return http.client.HTTPConnection(host, port, timeout=timeout_s)


def parse_webhook_url(url: str) -> Target:
    """Check a web address.

    Raises:
        UsageError: Not http or https; the message shows neither path nor password.
    """
    problem = UsageError("the webhook's address: expected one such as https://example.org/hook, got something else")
    if not url.isprintable() or " " in url or "\\" in url:
        raise problem
    try:
        parts = urllib.parse.urlsplit(url)
        host, port = parts.hostname, parts.port
        ascii_host = (host or "").encode("idna").decode("ascii") if ":" not in (host or "") else host or ""
        user = urllib.parse.unquote(parts.username or "", errors="strict")
        password = urllib.parse.unquote(parts.password or "", errors="strict")
    except ValueError:
        raise problem from None
    if parts.scheme not in ("http", "https") or not ascii_host or port == 0 or "@" in ascii_host:
        raise problem
    tls = parts.scheme == "https"
    path = urllib.parse.quote(parts.path or "/", safe=_KEPT_IN_URL)
    query = urllib.parse.quote(parts.query, safe=_KEPT_IN_URL)
    given = f":{port}" if port else ""
    shown_host = f"[{ascii_host}]" if ":" in ascii_host else ascii_host
    return Target(
        shown=f"{parts.scheme}://{shown_host}{given}",
        tls=tls,
        host=ascii_host,
        port=port or (443 if tls else 80),
        path=f"{path}?{query}" if query else path,
        authorization=f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}" if user else None,
    )


def changes() -> Callable[[Result], bool]:
    """A test, with a memory, for events, decisions with another label than the one before, and states of the source."""
    before: list[str | None] = [None]

    def changed(result: Result) -> bool:
        if isinstance(result, StateChange):
            return True
        if not isinstance(result, Classified) or result.decision is None:
            return False
        other = result.decision.label != before[0]
        before[0] = result.decision.label
        return other or result.decision.event

    return changed


def _check_status(shown: str, status: int) -> None:
    if status in _BUSY or status >= 500:
        raise _TryAgainError(f"{shown}: the server answered {status}")
    if 300 <= status < 400:
        raise OSError(f"{shown}: the server redirects ({status}), which is not followed; give the final address")
    if not 200 <= status < 300:
        raise OSError(f"{shown}: the server answered {status}; check the webhook's address and the secret")


def _failure(shown: str, error: Exception, timeout_s: float, lasted_s: float) -> OSError:
    if lasted_s >= timeout_s or isinstance(error, TimeoutError):
        return _TryAgainError(f"{shown}: no answer within {timeout_s:g} s")
    if isinstance(error, ssl.SSLCertVerificationError):
        return OSError(f"{shown}: its certificate is not accepted ({error.verify_message})")
    if isinstance(error, ssl.SSLError):
        return OSError(f"{shown}: no secure connection ({error.reason or 'broken off'}); check the address")
    if isinstance(error, socket.gaierror):
        return _TryAgainError(f"{shown}: the host cannot be found ({error.strerror})")
    if isinstance(error, OSError):
        return _TryAgainError(f"{shown}: {error.strerror or 'the connection broke'}")
    # What the server sent may be in the error's text.
    return OSError(f"{shown}: the answer is not HTTP ({shorten(type(error).__name__, 40)})")


def _cut(connection: http.client.HTTPConnection) -> None:
    # Each wait has a timeout of its own; this one is for a server that sends a byte now and then, for ever.
    sock = connection.sock
    if sock is not None:
        try:
            sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # it has just ended by itself
