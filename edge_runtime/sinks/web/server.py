"""Run the web server in its own thread and event loop, and check each request's method, host and token."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import hmac
import ipaddress
import logging
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler

from edge_runtime.errors import OutputError
from edge_runtime.sinks.web.auth import WebAddress
from edge_runtime.sinks.web.images import LiveFeed
from edge_runtime.sinks.web.routes import IDLE_TIMEOUT_S, ConnectionFactory, Handlers, IdleTimes

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors "
)
SECURITY_HEADERS: Final = {
    "Server": "edgekit",
    "Cache-Control": "no-store",
    "Content-Security-Policy": f"{_POLICY}'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_OPEN_PATHS: Final = frozenset({"/healthz", "/app.js", "/style.css", "/icon.svg"})
_SIGN_IN: Final = resources.files(__package__).joinpath("sign_in.html").read_text(encoding="utf-8")
_MAX_LINE_BYTES = 4096
_MAX_HEADER_BYTES = 8190
_SEND_BUFFER_BYTES = 1 << 18
_BACKLOG = 128
_END_TIMEOUT_S = 1.0
_CLOSE_DEADLINE_S = 5.0


class RequestGuard:
    """Check of requests: GET or HEAD, the right host, no foreign site, and the token.

    Args:
        address: Address of the page; for a loopback address the ``Host`` header must be a loopback host too, against
            DNS rebinding by a web site.
        token: Token that a request must contain, or None.
        embedded: True if a page of another site shows this one in a frame, where browsers keep no cookie: the token
            then stays in the address.
    """

    def __init__(self, address: WebAddress, token: str | None, *, embedded: bool = False) -> None:
        self._local, self._token, self._embedded = address.is_loopback, token, embedded
        # Not the token itself: browsers send a cookie to every port of this host.
        self._session = hmac.new((token or "").encode(), b"edgekit page", hashlib.sha256).hexdigest()
        self._failures = FailedAttempts()

    def refusal(self, request: web.Request) -> web.Response | None:
        """Return the response to a request that is refused; None if it is allowed."""
        if request.method not in ("GET", "HEAD"):
            refused = web.Response(status=405, text="only GET and HEAD\n", headers={"Allow": "GET, HEAD"})
            refused.force_close()
            return refused
        if self._local and not is_local_host(request.headers.get("Host", "")):
            return web.Response(status=421, text="this page is for this machine only: use localhost\n")
        site, mode = request.headers.get("Sec-Fetch-Site"), request.headers.get("Sec-Fetch-Mode")
        if site in ("cross-site", "same-site") and mode != "navigate":
            return web.Response(status=403, text="not for other sites\n")
        if self._token is None or request.path in _OPEN_PATHS:
            return None
        return self._check_token(request, self._token)

    def _check_token(self, request: web.Request, token: str) -> web.Response | None:
        peer, cookie_name = request.remote or "", _cookie_name(request)
        offered = _offered(request)
        cookie = request.cookies.get(cookie_name)
        if offered is None and cookie is None:
            return _unauthorised(request)
        right = _same(offered, token) if offered is not None else _same(cookie or "", self._session)
        # The right token always passes: behind a proxy all clients have one address, and nobody guesses 16 letters.
        if not right and self._failures.too_many(peer):
            return web.Response(
                status=429, text="too many wrong tokens: wait a minute\n", headers={"Retry-After": "60"}
            )
        if not right:
            self._failures.add(peer)
            response = _unauthorised(request)
            response.del_cookie(cookie_name)
            return response
        if request.path == "/" and "token" in request.query and not self._embedded:
            # Removes the token from the address bar and the history.
            moved = web.Response(status=303, headers={"Location": "./"})
            self.remember(request, moved)
            return moved
        return None

    def remember(self, request: web.Request, response: web.StreamResponse) -> None:
        """Give the browser a cookie for a right token in the address of the page."""
        if self._token and request.path == "/" and "token" in request.query:
            name = _cookie_name(request)
            response.set_cookie(name, self._session, httponly=True, samesite="Strict", path="/")


class FailedAttempts:
    """Counts of wrong tokens for each client address, bounded by forgetting the oldest addresses.

    Args:
        clock: Time in seconds, `time.monotonic` by default.
    """

    _MOST, _WITHIN_S, _PEERS = 10, 60.0, 1024

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._peers: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._peers)

    def add(self, peer: str) -> None:
        """Count a wrong token."""
        since_s, count = self._peers.pop(peer, (self._clock(), 0))
        self._peers[peer] = (since_s, count + 1)
        if len(self._peers) > self._PEERS:
            self._peers.popitem(last=False)

    def too_many(self, peer: str) -> bool:
        """Tell whether a client must wait."""
        since_s, count = self._peers.get(peer, (0.0, 0))
        if self._clock() - since_s > self._WITHIN_S:
            self._peers.pop(peer, None)
            return False
        return count >= self._MOST


def is_local_host(header: str) -> bool:
    """Tell whether a ``Host`` header is ``localhost``, 127.x.x.x or ::1, with any port."""
    try:
        host = urlsplit(f"//{header}").hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _offered(request: web.Request) -> str | None:
    scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return credentials.strip()
    return request.query.get("token")


def _same(offered: str, secret: str) -> bool:
    return hmac.compare_digest(offered.encode(errors="surrogatepass"), secret.encode())


def _cookie_name(request: web.Request) -> str:
    # Cookies are shared by all ports, and one board may run two cameras.
    address = request.transport.get_extra_info("sockname") if request.transport else None
    return f"edgekit_{address[1]}" if address else "edgekit"


def _unauthorised(request: web.Request) -> web.Response:
    headers = {"WWW-Authenticate": "Bearer"}
    if request.path == "/":
        return web.Response(status=401, text=_SIGN_IN, content_type="text/html", headers=headers)
    return web.Response(status=401, text="a token is needed\n", headers=headers)


def _is_own_error(record: logging.LogRecord) -> bool:
    """Tell whether a log record is not about an invalid request, which must not fill the journal."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


_LOGGER = logging.getLogger(__name__)
_LOGGER.addFilter(_is_own_error)


class WebServer:
    """HTTP server of the page, which listens from its construction to `close`.

    Args:
        address: Host and port to listen on.
        token: Token that a request must contain, or None.
        feed: Images and events from the camera's thread.
        make_handlers: Factory of the request handlers, called in the event loop with a thread for blocking work.
        frame_ancestors: Origins whose pages may show this one in a frame.

    Raises:
        OutputError: The server cannot listen there.
    """

    def __init__(
        self,
        address: WebAddress,
        token: str | None,
        feed: LiveFeed,
        make_handlers: Callable[[ThreadPoolExecutor], Handlers],
        frame_ancestors: Sequence[str] = (),
    ) -> None:
        self._feed, self._make_handlers = feed, make_handlers
        policy = _POLICY + (" ".join(frame_ancestors) or "'none'")
        self._headers = {**SECURITY_HEADERS, "Content-Security-Policy": policy}
        self._request_guard = RequestGuard(address, token, embedded=bool(frame_ancestors))
        self._socket = _listen(address)
        self.port: int = self._socket.getsockname()[1]
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end: asyncio.Event | None = None
        self._idle = IdleTimes()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sink web", daemon=True)
        self._thread.start()
        self._ready.wait(_CLOSE_DEADLINE_S)

    @property
    def alive(self) -> bool:
        """True while the server runs."""
        return self._thread.is_alive()

    def close(self) -> None:
        """End streams, close the port and wait for the thread; calling it again does nothing."""
        self._feed.connect(None)
        if self._loop and self._end and self._thread.is_alive():
            with contextlib.suppress(RuntimeError):  # the loop ended between the two lines
                self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(_CLOSE_DEADLINE_S)

    def _run(self) -> None:
        with self._socket, ThreadPoolExecutor(1, "sink web work") as executor:
            try:
                asyncio.run(self._serve(executor))
            finally:
                self._feed.connect(None)
                self._ready.set()

    async def _serve(self, executor: ThreadPoolExecutor) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        handlers = self._make_handlers(executor)
        application = web.Application(middlewares=[self._admit], logger=_LOGGER)
        application.on_response_prepare.append(self._add_headers)
        handlers.register(application)
        runner = web.AppRunner(
            application,
            logger=_LOGGER,
            access_log=None,
            handler_cancellation=True,
            keepalive_timeout=IDLE_TIMEOUT_S,
            lingering_time=_END_TIMEOUT_S,
            max_line_size=_MAX_LINE_BYTES,
            max_field_size=_MAX_HEADER_BYTES,
            shutdown_timeout=_END_TIMEOUT_S,
        )
        await runner.setup()
        assert runner.server is not None  # noqa: S101  (setup makes it)
        connections = ConnectionFactory(runner.server, self._idle)
        listener = await self._loop.create_server(connections, sock=self._socket, backlog=_BACKLOG)
        watching = self._loop.create_task(connections.watch())
        self._feed.connect(handlers.images.deliver)
        self._ready.set()
        try:
            await self._end.wait()
        finally:
            listener.close()
            watching.cancel()
            handlers.streams.end()
            await runner.cleanup()

    @web.middleware
    async def _admit(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        with self._idle.busy(request):
            refusal = self._request_guard.refusal(request)
            if refusal:
                return refusal
            response = await handler(request)
            if not response.prepared:
                self._request_guard.remember(request, response)
            return response

    async def _add_headers(self, _request: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(self._headers)


def _listen(address: WebAddress) -> socket.socket:
    host = "127.0.0.1" if address.host == "localhost" else address.host
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, address.port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # Inherited by connections, so that the kernel does not buffer megabytes for clients that do not read.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(address.host != "::"))
            listener.bind(place)
            listener.listen(_BACKLOG)
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        raise OutputError(f"--web {address}: cannot listen there ({error.strerror}); {_remedy(error)}") from error
    return listener


def _remedy(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "another program listens there: stop it, or give another port"
    if error.errno in (errno.EACCES, errno.EPERM):
        return "give a port of 1024 or more"
    return "give an address of this machine, or 0.0.0.0 for all of them"
