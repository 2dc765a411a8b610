"""Bounds on what peers hold: connections, silence, streams, and bytes that they do not read."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator

from aiohttp import web

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
