"""Routes of the live page, and limits on connections, idle time and event streams."""

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
from edge_runtime.sinks.web.images import Images, Showcase
from edge_runtime.sinks.web.state import Board, metrics_text, state_json, trouble

MAX_CONNECTIONS = 256
MAX_STREAMS = 32
QUIET_S = 15.0
WRITE_TIMEOUT_S = 10.0
_CHECK_INTERVAL_S = 1.0
_WRITE_BUFFER_BYTES = 1 << 16


class _Refusal(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  (TCP gives nothing else)
        transport.abort()


class Quiet:
    """Since when no request is being answered on a connection."""

    def __init__(self) -> None:
        self.since_s: dict[asyncio.BaseProtocol, float] = {}

    def begin(self, protocol: asyncio.BaseProtocol) -> None:
        """Count from now."""
        self.since_s[protocol] = time.monotonic()

    @contextlib.contextmanager
    def busy(self, request: web.BaseRequest) -> Iterator[None]:
        """Do not count for the length of an answer."""
        self.since_s[request.protocol] = float("inf")
        try:
            yield
        finally:
            self.begin(request.protocol)


class Connections:
    """Makes the protocol of each connection, and ends those on which no request is being answered for too long.

    That covers a peer that says nothing, sends its headers a byte at a time, keeps a connection for later, or does
    not read its answer.
    """

    def __init__(self, server: web.Server, quiet: Quiet) -> None:
        self._server, self._quiet = server, quiet

    def __call__(self) -> asyncio.Protocol:
        """The protocol of a new connection; one that hangs up at once where there are too many."""
        if len(self._server.connections) >= MAX_CONNECTIONS:
            return _Refusal()
        protocol: asyncio.Protocol = self._server()
        self._quiet.begin(protocol)
        return protocol

    async def watch(self) -> None:
        """Look after connections until cancelled."""
        while True:
            await asyncio.sleep(_CHECK_INTERVAL_S)
            now_s = time.monotonic()
            open_now = set(self._server.connections)
            for protocol, since_s in list(self._quiet.since_s.items()):
                if protocol not in open_now and now_s - since_s > _CHECK_INTERVAL_S:
                    del self._quiet.since_s[protocol]
            for connection in open_now:
                silent_s = now_s - self._quiet.since_s.get(connection, now_s)
                if silent_s > QUIET_S and connection.transport is not None:
                    connection.transport.abort()


class Streams:
    """Answers that stay open: at most `MAX_STREAMS` at a time, and all ended together."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[object]] = set()
        self._ended = False

    def __len__(self) -> int:
        return len(self._tasks)

    @contextlib.contextmanager
    def place(self) -> Iterator[None]:
        """Take a place for the length of an answer.

        Raises:
            aiohttp.web.HTTPServiceUnavailable: All are taken, or the server is closing.
        """
        if self._ended or len(self._tasks) >= MAX_STREAMS:
            raise web.HTTPServiceUnavailable(text="too many watch already\n", headers={"Retry-After": "5"})
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  (handlers run in tasks)
        self._tasks.add(task)
        try:
            yield
        finally:
            self._tasks.discard(task)

    def end(self) -> None:
        """Cancel them all, and let no more begin."""
        self._ended = True
        for task in self._tasks:
            task.cancel()


class EventStream:
    """Server-sent events to one peer, which is dropped when it does not read."""

    def __init__(self, request: web.Request) -> None:
        self._request = request
        headers = {"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}
        self._response = web.StreamResponse(headers=headers)

    async def open(self) -> web.StreamResponse:
        """Send the headers."""
        await self._response.prepare(self._request)
        if isinstance(self._request.transport, asyncio.WriteTransport):
            self._request.transport.set_write_buffer_limits(_WRITE_BUFFER_BYTES)
        return self._response

    async def send(self, block: bytes) -> None:
        """Send one block of lines.

        Raises:
            ConnectionError: The peer has gone, or has not read for `WRITE_TIMEOUT_S`.
        """
        # Not asyncio.wait_for, which up to Python 3.11 may swallow the cancellation that ends a stream.
        timer = asyncio.get_running_loop().call_later(WRITE_TIMEOUT_S, self._hang_up)
        try:
            await self._response.write(block + b"\n\n")
        finally:
            timer.cancel()

    def _hang_up(self) -> None:
        if isinstance(self._request.transport, asyncio.WriteTransport):
            self._request.transport.abort()


_ASSETS: Final = {
    "/": ("page.html", "text/html"),
    "/app.js": ("app.js", "text/javascript"),
    "/style.css": ("style.css", "text/css"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_TICK_S = 0.125
_HEARTBEAT_TICKS = 8
_IMAGE_WAIT_S = 10.0
_FIRST_IMAGE_WAIT_S = 3.0
_MAX_NUMBER_DIGITS = 15


class Routes:
    """The handlers; they live in the server's event loop.

    Args:
        name: Of the camera.
        labels: Of the model, in its order.
        health: Of the run.
        showcase: What the camera's thread leaves.
        executor: For what would hold up the loop.
    """

    def __init__(
        self, name: str, labels: Sequence[str], health: Health, showcase: Showcase, executor: Executor
    ) -> None:
        self._name, self._labels, self._health, self._showcase = name, labels, health, showcase
        self.streams = Streams()
        self.images = Images(showcase, executor)
        self._board = Board(executor)
        self._state = b""
        self._state_made_s = float("-inf")

    def add_to(self, application: web.Application) -> None:
        """Register everything that can be asked for; anything else is 404."""
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
        with self.streams.place():
            stream = EventStream(request)
            response = await stream.open()
            await stream.send(b"retry: 2000")
            while request.transport is not None and not request.transport.is_closing():
                version = self._showcase.version
                await stream.send(b"data: " + await self._state_now())
                for _ in range(_HEARTBEAT_TICKS):
                    await asyncio.sleep(_TICK_S)
                    if self._showcase.version != version:
                        break
            return response

    async def _frame(self, request: web.Request) -> web.Response:
        """Answer with an image other than number ``after`` once there is one: whoever is slow asks less often."""
        after = request.query.get("after", "0")
        if not (after.isascii() and after.isdecimal() and len(after) <= _MAX_NUMBER_DIGITS):
            raise web.HTTPBadRequest(text="after: expected the number of an image\n")
        waiting = "after" in request.query
        if request.method == "HEAD":
            return web.Response(content_type="image/jpeg")
        with self.streams.place():
            wait_s = _IMAGE_WAIT_S if waiting else _FIRST_IMAGE_WAIT_S
            image = await self.images.other_than(int(after), wait_s)
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
        reason = trouble(self._health.snapshot())
        body = {"status": "failing", "reason": reason} if reason else {"status": "ok"}
        return web.Response(status=503 if reason else 200, text=json.dumps(body), content_type="application/json")

    async def _state_now(self) -> bytes:
        """One JSON text for all who ask within a tick."""
        board = await self._board.reading()
        now_s = asyncio.get_running_loop().time()
        if now_s - self._state_made_s >= _TICK_S / 2:
            self._state_made_s = now_s
            snapshot, events = self._health.snapshot(), self._showcase.events()
            self._state = state_json(self._name, self._labels, snapshot, events, board)
        return self._state


def _asset(file: str, content_type: str) -> Handler:
    body = resources.files(__package__).joinpath(file).read_bytes()

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(body=body, content_type=content_type, charset="utf-8")

    return answer
