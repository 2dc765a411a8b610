"""Post results to a web address as small JSON bodies, from a separate thread."""

from __future__ import annotations

import base64
import contextlib
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

from edge_runtime.errors import UsageError, shorten
from edge_runtime.platform.net import (
    ascii_host,
    check_credentials_encoded,
    find_secret,
    is_temporary_status,
    network_error,
    percent_encode,
    url_credentials,
)
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
_MAX_RESPONSE_BYTES = 1024


@dataclass(frozen=True)
class Target:
    """A checked web address.

    Attributes:
        shown: Scheme, host and port, for messages; path and query often contain a secret.
        tls: True for https.
        host: Host name or IP address.
        port: TCP port, 1..65535.
        path: Path and query of the request; never shown.
        authorization: Header with the address' user name and password, or None; never shown.
    """

    shown: str
    tls: bool
    host: str
    port: int
    path: str = field(repr=False)
    authorization: str | None = field(default=None, repr=False)


class _TemporaryError(OSError):
    """A temporary failure: no connection, no response, a busy server."""


class WebhookSink(Sink):
    """A POST request with JSON for each result; `write` waits for the response, so `open` adds a thread.

    The body is `edge_runtime.results.to_record` with ``name`` and ``sent_at``, in Unix seconds. A temporary failure is
    retried once, so a receiver may get one delivery twice, with the same `DELIVERY_HEADER`. Redirects are not
    followed, proxies of the environment are not used, and images are not sent.

    Args:
        target: Checked web address; see `parse_webhook_url`.
        name: Name of this camera.
        secret: Key of the HMAC in `SIGNATURE_HEADER`, ``sha256=<hexadecimal>``; None does not sign.
        timeout_s: Time limit of one attempt from connection to response, in seconds.
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
        """Prepare a webhook in its own thread; nothing is sent yet.

        Args:
            url: Web address, ``https://host/path`` or ``http://host/path``.
            name: Name of this camera, in every body.
            all_changes: True to send, besides events and states of the source, also the end of a decision.
            environment: Environment variables, for `SECRET_VARIABLE` or systemd's credentials.
            timeout_s: Time limit of one attempt, in seconds.
            retry_after_s: Pause before the second attempt, in seconds.

        Raises:
            UsageError: The address is not http or https, or the secret cannot be read.
        """
        secret = find_secret(SECRET_VARIABLE, SECRET_CREDENTIAL, environment)
        target = parse_webhook_url(url)
        sink = WebhookSink(target, name=name, secret=secret, timeout_s=timeout_s, retry_after_s=retry_after_s)
        return BackgroundSink(sink, "webhook", wants=changes() if all_changes else is_news)

    def write(self, result: Result, image_hwc_rgb_u8: object = None) -> None:  # noqa: ARG002  images are not sent
        """Post one result.

        Raises:
            OSError: The server did not accept it; the message has no secret parts of the address.
        """
        try:
            record = {"name": self._name, "sent_at": round(time.time(), 3), **to_record(result)}
            body = json_line(record).encode()
        except ValueError as error:
            raise OSError(f"{self._target.shown}: a result cannot be written as JSON ({error})") from error
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
        except _TemporaryError:
            if self._closed.wait(self._retry_after_s):
                raise
            self._post(body, headers)

    def close(self) -> None:
        """Cancel the wait for a second attempt."""
        self._closed.set()

    def _post(self, body: bytes, headers: Mapping[str, str]) -> None:
        shown = self._target.shown
        connection, start_s = self._connection(), time.monotonic()
        guard = threading.Timer(self._timeout_s, _cut, [connection])
        guard.daemon = True
        guard.start()
        try:
            connection.request("POST", self._target.path, body, dict(headers))
            response = connection.getresponse()
            response.read(_MAX_RESPONSE_BYTES)
            if time.monotonic() - start_s >= self._timeout_s:
                # A response that the guard cut off can look complete.
                raise TimeoutError
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _failure(shown, error, self._timeout_s, time.monotonic() - start_s) from error
        finally:
            guard.cancel()
            connection.close()
        status = response.status
        if is_temporary_status(status):
            raise _TemporaryError(f"{shown}: the server answered {status}")
        if 300 <= status < 400:
            raise OSError(f"{shown}: the server redirects ({status}), which is not followed; give the final address")
        if not 200 <= status < 300:
            raise OSError(f"{shown}: the server answered {status}; check the webhook's address and the secret")

    def _connection(self) -> http.client.HTTPConnection:
        host, port, timeout_s = self._target.host, self._target.port, self._timeout_s
        if self._context:
            return http.client.HTTPSConnection(host, port, timeout=timeout_s, context=self._context)
        return http.client.HTTPConnection(host, port, timeout=timeout_s)


def parse_webhook_url(url: str) -> Target:
    """Check a web address.

    Raises:
        UsageError: The address is not http or https; the message shows neither path nor password.
    """
    check_credentials_encoded("--webhook", url)
    problem = UsageError("the webhook's address: expected one such as https://example.org/hook, got something else")
    if not url.isprintable() or " " in url or "\\" in url:
        raise problem
    try:
        parts = urllib.parse.urlsplit(url)
        host, port = parts.hostname, parts.port
        host = ascii_host(host or "")
        credentials = url_credentials(parts)
    except ValueError:
        raise problem from None
    if parts.scheme not in ("http", "https") or not host or port == 0 or "@" in host:
        raise problem
    tls = parts.scheme == "https"
    path, query = percent_encode(parts.path or "/"), percent_encode(parts.query)
    given = f":{port}" if port else ""
    shown_host = f"[{host}]" if ":" in host else host
    return Target(
        shown=f"{parts.scheme}://{shown_host}{given}",
        tls=tls,
        host=host,
        port=port or (443 if tls else 80),
        path=f"{path}?{query}" if query else path,
        authorization=f"Basic {base64.b64encode(':'.join(credentials).encode()).decode()}" if credentials else None,
    )


def changes() -> Callable[[Result], bool]:
    """Make a stateful filter of events, decisions whose label differs from the last one, and states of the source."""
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


def _failure(shown: str, error: Exception, timeout_s: float, lasted_s: float) -> OSError:
    if lasted_s >= timeout_s or isinstance(error, TimeoutError):
        return _TemporaryError(f"{shown}: {network_error(TimeoutError(), timeout_s)}")
    if isinstance(error, ssl.SSLError):
        return OSError(f"{shown}: {network_error(error)}; check the address")
    if isinstance(error, OSError):
        return _TemporaryError(f"{shown}: {network_error(error)}")
    # Its text may contain what the server sent.
    return OSError(f"{shown}: the answer is not HTTP ({shorten(type(error).__name__, 40)})")


def _cut(connection: http.client.HTTPConnection) -> None:
    # Each wait has its own timeout; this limit is for a server that sends a byte now and then without end.
    if connection.sock is not None:
        with contextlib.suppress(OSError):  # the connection may just have ended
            connection.sock.shutdown(socket.SHUT_RDWR)
