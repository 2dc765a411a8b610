"""What the server answers: the page and its parts, the state once or as it changes, pictures, metrics, health."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from concurrent.futures import Executor
from importlib import resources
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

from edge_runtime.health import Health
from edge_runtime.sinks.web.connections import EventStream, Streams
from edge_runtime.sinks.web.metrics import metrics_text
from edge_runtime.sinks.web.pictures import Pictures
from edge_runtime.sinks.web.showcase import Showcase
from edge_runtime.sinks.web.state import Board, state_json, trouble

_ASSETS: Final = {
    "/": ("page.html", "text/html"),
    "/app.js": ("app.js", "text/javascript"),
    "/style.css": ("style.css", "text/css"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_TICK_S = 0.125
_HEARTBEAT_TICKS = 8
_PICTURE_WAIT_S = 10.0
_FIRST_PICTURE_WAIT_S = 3.0
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
        self.pictures = Pictures(showcase, executor)
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
        """Answer with a picture other than number ``after`` once there is one: whoever is slow asks less often."""
        after = request.query.get("after", "0")
        if not (after.isascii() and after.isdecimal() and len(after) <= _MAX_NUMBER_DIGITS):
            raise web.HTTPBadRequest(text="after: expected the number of a picture\n")
        waiting = "after" in request.query
        if request.method == "HEAD":
            return web.Response(content_type="image/jpeg")
        with self.streams.place():
            wait_s = _PICTURE_WAIT_S if waiting else _FIRST_PICTURE_WAIT_S
            picture = await self.pictures.other_than(int(after), wait_s)
        if picture is None and waiting:
            return web.Response(status=204)
        if picture is None:
            raise web.HTTPServiceUnavailable(text="the camera gives no picture\n", headers={"Retry-After": "5"})
        headers = {"X-Picture-Number": str(picture.number)}
        return web.Response(body=picture.jpeg, content_type="image/jpeg", headers=headers)

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
