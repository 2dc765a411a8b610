"""Handlers of the live page, and limits on connections, idle time and open streams."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from importlib import resources
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

from edge_runtime.pipeline.health import Health
from edge_runtime.sinks.web.images import ImageEncoder, LiveFeed
from edge_runtime.sinks.web.state import Board, metrics_text, problem_of, state_json

MAX_CONNECTIONS = 256
MAX_STREAMS = 32
IDLE_TIMEOUT_S = 15.0
WRITE_TIMEOUT_S = 10.0
_CHECK_INTERVAL_S = 1.0
_BURST_S = 0.05
_WRITE_BUFFER_BYTES = 1 << 16
_ASSETS: Final = {
    "/": ("page.html", "text/html"),
    "/app.js": ("app.js", "text/javascript"),
    "/style.css": ("style.css", "text/css"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_TICK_S = 0.125
_HEARTBEAT_TICKS = 8
_MAX_NUMBER_DIGITS = 15


class _RefuseConnection(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  (TCP gives nothing else)
        transport.abort()


class IdleTimes:
    """Start of the idle time of each connection, by `time.monotonic`; infinity during a response."""

    def __init__(self) -> None:
        self.since_s: dict[asyncio.BaseProtocol, float] = {}

    def begin(self, protocol: asyncio.BaseProtocol) -> None:
        """Start the idle time of a connection."""
        self.since_s[protocol] = time.monotonic()

    @contextlib.contextmanager
    def busy(self, request: web.BaseRequest) -> Iterator[None]:
        """Suspend the idle time during a response."""
        self.since_s[request.protocol] = float("inf")
        try:
            yield
        finally:
            self.begin(request.protocol)


class ConnectionFactory:
    """Makes the protocol of each new connection, and closes connections that are idle too long.

    Idle are clients that send nothing, send headers byte by byte, keep a connection open, or do not read the response.
    """

    def __init__(self, server: web.Server, idle: IdleTimes) -> None:
        self._server, self._idle = server, idle

    def __call__(self) -> asyncio.Protocol:
        """Make the protocol of a new connection.

        Beyond `MAX_CONNECTIONS` the one that has been idle longest makes room, so that slow clients do not keep a
        health check away; if all are being answered, the new one is disconnected at once.
        """
        if not self._make_room(MAX_CONNECTIONS - 1):
            return _RefuseConnection()
        # Of a burst none is connected before all are accepted.
        asyncio.get_running_loop().call_later(_BURST_S, self._make_room, MAX_CONNECTIONS)
        protocol: asyncio.Protocol = self._server()
        self._idle.begin(protocol)
        return protocol

    def _make_room(self, most: int) -> bool:
        """Close the connections that have been idle longest until ``most`` are left; False if too many are not idle."""
        since_s = self._idle.since_s
        connected = [one for one in self._server.connections if one.transport and not one.transport.is_closing()]
        too_many = max(0, len(connected) - most)
        oldest = sorted(connected, key=lambda one: since_s.get(one, 0.0))[:too_many] if too_many else []
        idle = [one for one in oldest if since_s.get(one, 0.0) < float("inf")]
        for connection in idle:
            if connection.transport:
                connection.transport.abort()
        return len(idle) == len(oldest)

    async def watch(self) -> None:
        """Close idle connections until cancelled."""
        while True:
            await asyncio.sleep(_CHECK_INTERVAL_S)
            now_s = time.monotonic()
            open_now = set(self._server.connections)
            for protocol, since_s in list(self._idle.since_s.items()):
                if protocol not in open_now and now_s - since_s > _CHECK_INTERVAL_S:
                    del self._idle.since_s[protocol]
            for connection in open_now:
                silent_s = now_s - self._idle.since_s.get(connection, now_s)
                if silent_s > IDLE_TIMEOUT_S and connection.transport is not None:
                    connection.transport.abort()


class StreamSlots:
    """Open streams and waiting requests: at most `MAX_STREAMS` at a time; `end` cancels all."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[object]] = set()
        self._ended = False

    def __len__(self) -> int:
        return len(self._tasks)

    @contextlib.contextmanager
    def slot(self) -> Iterator[None]:
        """Hold a slot during a response.

        Raises:
            aiohttp.web.HTTPServiceUnavailable: No slot is free, or the server is closing.
        """
        if self._ended or len(self._tasks) >= MAX_STREAMS:
            raise web.HTTPServiceUnavailable(text="too many viewers\n", headers={"Retry-After": "5"})
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  (handlers run in tasks)
        self._tasks.add(task)
        try:
            yield
        finally:
            self._tasks.discard(task)

    def end(self) -> None:
        """Cancel all responses in slots, and refuse new ones."""
        self._ended = True
        for task in self._tasks:
            task.cancel()


async def _send(response: web.StreamResponse, transport: asyncio.WriteTransport, block: bytes) -> None:
    """Send one block of lines; a client that has not read for `WRITE_TIMEOUT_S` is disconnected: ConnectionError."""
    # Not asyncio.wait_for, which up to Python 3.11 may swallow the cancellation that ends a stream.
    timer = asyncio.get_running_loop().call_later(WRITE_TIMEOUT_S, transport.abort)
    try:
        await response.write(block + b"\n\n")
    finally:
        timer.cancel()


class Handlers:
    """Request handlers of the page, for the server's event loop.

    Args:
        name: Display name of the camera.
        labels: All labels of the model, in output order.
        health: State of the run.
        feed: Images and events from the camera's thread.
        image_waits_s: Longest waits for any image, and for the one after a number, in seconds.
        executor: Thread for blocking work.
    """

    def __init__(
        self,
        name: str,
        labels: Sequence[str],
        health: Health,
        feed: LiveFeed,
        image_waits_s: tuple[float, float],
        executor: Executor,
    ) -> None:
        self._name, self._labels, self._health, self._feed = name, labels, health, feed
        self._image_waits_s = image_waits_s
        self.streams = StreamSlots()
        self.images = ImageEncoder(feed, executor)
        self._board = Board(executor)
        self._state = b""
        self._state_made_s = float("-inf")

    def register(self, application: web.Application) -> None:
        """Register the handlers of all paths; any other path is 404."""
        for path, (file, content_type) in _ASSETS.items():
            application.router.add_get(path, _asset(file, content_type))
        application.router.add_get("/events", self._events)
        application.router.add_get("/frame.jpg", self._frame)
        application.router.add_get("/api/state", self._api_state)
        application.router.add_get("/metrics", self._metrics)
        application.router.add_get("/healthz", self._healthz)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        if request.method == "HEAD":
            return web.Response(content_type="text/event-stream")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
        with self.streams.slot():
            await response.prepare(request)
            transport = request.transport
            if not isinstance(transport, asyncio.WriteTransport):
                return response  # the client has disconnected
            transport.set_write_buffer_limits(_WRITE_BUFFER_BYTES)
            await _send(response, transport, b"retry: 2000")
            while not transport.is_closing():
                version = self._feed.version
                await _send(response, transport, b"data: " + await self._state_now())
                for _ in range(_HEARTBEAT_TICKS):
                    await asyncio.sleep(_TICK_S)
                    if self._feed.version != version:
                        break
            return response

    async def _frame(self, request: web.Request) -> web.Response:
        """Respond with the next image after number ``after``; a slow client gets fewer images."""
        after = request.query.get("after", "0")
        if not (after.isascii() and after.isdecimal() and len(after) <= _MAX_NUMBER_DIGITS):
            raise web.HTTPBadRequest(text="after: expected the number of an image\n")
        waiting = "after" in request.query
        if request.method == "HEAD":
            return web.Response(content_type="image/jpeg")
        with self.streams.slot():
            image = await self.images.next_image(int(after), self._image_waits_s[waiting])
        if image is None and waiting:
            return web.Response(status=204)
        if image is None:
            raise web.HTTPServiceUnavailable(text="the camera gives no image\n", headers={"Retry-After": "5"})
        headers = {"X-Picture-Number": str(image.number)}
        return web.Response(body=image.jpeg, content_type="image/jpeg", headers=headers)

    async def _api_state(self, _request: web.Request) -> web.Response:
        return web.Response(body=await self._state_now(), content_type="application/json")

    async def _metrics(self, request: web.Request) -> web.Response:
        board = await self._board.reading()
        accept = request.headers.get("Accept", "")
        body, content_type = metrics_text(self._health.snapshot(), board, len(self.streams), accept)
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def _healthz(self, _request: web.Request) -> web.Response:
        reason = problem_of(self._health.snapshot())
        body = {"status": "failing", "reason": reason} if reason else {"status": "ok"}
        return web.Response(status=503 if reason else 200, text=json.dumps(body), content_type="application/json")

    async def _state_now(self) -> bytes:
        """Return the state as JSON, made once for all requests within half a tick."""
        board = await self._board.reading()
        now_s = asyncio.get_running_loop().time()
        if now_s - self._state_made_s >= _TICK_S / 2:
            self._state_made_s = now_s
            snapshot, events = self._health.snapshot(), self._feed.events()
            self._state = state_json(self._name, self._labels, snapshot, events, board)
        return self._state


def _asset(file: str, content_type: str) -> Handler:
    body = resources.files(__package__).joinpath(file).read_bytes()

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(body=body, content_type=content_type, charset="utf-8")

    return answer
