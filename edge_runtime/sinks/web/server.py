"""The web server: a thread with an event loop of its own, so that no client ever holds up the camera."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler

from edge_runtime.errors import OutputError
from edge_runtime.health import Health
from edge_runtime.sinks.web.address import WebAddress
from edge_runtime.sinks.web.connections import QUIET_S, Connections, Quiet
from edge_runtime.sinks.web.guard import SECURITY_HEADERS, Guard
from edge_runtime.sinks.web.routes import Routes
from edge_runtime.sinks.web.showcase import Showcase

_MAX_LINE_BYTES = 4096
_MAX_HEADER_BYTES = 8190
_SEND_BUFFER_BYTES = 1 << 18
_BACKLOG = 128
_END_TIMEOUT_S = 1.0
_CLOSE_DEADLINE_S = 5.0


def _is_ours(record: logging.LogRecord) -> bool:
    """Whether a log record tells of a fault of ours: a peer that talks nonsense must not fill the journal."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


_LOGGER = logging.getLogger(__name__)
_LOGGER.addFilter(_is_ours)


class WebServer:
    """Listens from its construction to `close`.

    Args:
        address: Where to listen.
        token: What a client must show, or None.
        name: Of the camera.
        labels: Of the model, in its order.
        health: Of the run.
        showcase: What the camera's thread leaves.

    Raises:
        OutputError: The address cannot be had.
    """

    def __init__(
        self,
        address: WebAddress,
        token: str | None,
        *,
        name: str,
        labels: Sequence[str],
        health: Health,
        showcase: Showcase,
    ) -> None:
        self._name, self._labels, self._health, self._showcase = name, labels, health, showcase
        self._guard = Guard(address, token)
        self._socket = _listen(address)
        self.port: int = self._socket.getsockname()[1]
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end: asyncio.Event | None = None
        self._quiet = Quiet()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sink web", daemon=True)
        self._thread.start()
        self._ready.wait(_CLOSE_DEADLINE_S)

    @property
    def alive(self) -> bool:
        """Whether it still answers."""
        return self._thread.is_alive()

    def close(self) -> None:
        """End streams, let go of the port and wait for the thread; calling it again does nothing."""
        self._showcase.connect(None)
        if self._loop and self._end and self._thread.is_alive():
            with contextlib.suppress(RuntimeError):  # the loop ended between the two lines
                self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(_CLOSE_DEADLINE_S)

    def _run(self) -> None:
        with self._socket, ThreadPoolExecutor(1, "sink web work") as executor:
            try:
                asyncio.run(self._serve(executor))
            finally:
                self._showcase.connect(None)
                self._ready.set()

    async def _serve(self, executor: ThreadPoolExecutor) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        routes = Routes(self._name, self._labels, self._health, self._showcase, executor)
        application = web.Application(middlewares=[self._admit], logger=_LOGGER)
        application.on_response_prepare.append(_add_headers)
        routes.add_to(application)
        runner = web.AppRunner(
            application,
            logger=_LOGGER,
            access_log=None,
            handler_cancellation=True,
            keepalive_timeout=QUIET_S,
            lingering_time=_END_TIMEOUT_S,
            max_line_size=_MAX_LINE_BYTES,
            max_field_size=_MAX_HEADER_BYTES,
            shutdown_timeout=_END_TIMEOUT_S,
        )
        await runner.setup()
        assert runner.server is not None  # noqa: S101  (setup makes it)
        connections = Connections(runner.server, self._quiet)
        listener = await self._loop.create_server(connections, sock=self._socket, backlog=_BACKLOG)
        watching = self._loop.create_task(connections.watch())
        self._showcase.connect(routes.pictures.deliver)
        self._ready.set()
        try:
            await self._end.wait()
        finally:
            listener.close()
            watching.cancel()
            routes.streams.end()
            await runner.cleanup()

    @web.middleware
    async def _admit(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        with self._quiet.busy(request):
            return self._guard.refusal(request) or await handler(request)


async def _add_headers(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(SECURITY_HEADERS)


def _listen(address: WebAddress) -> socket.socket:
    host = "127.0.0.1" if address.host == "localhost" else address.host
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, address.port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # Inherited by connections: the kernel must not buffer megabytes for each client that does not read.
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
        return "stop the program that does, or give another port"
    if error.errno in (errno.EACCES, errno.EPERM):
        return "give a port of 1024 or more"
    return "give an address of this machine, or 0.0.0.0 for all of them"
