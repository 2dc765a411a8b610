"""Show results on the live page; each costs the camera one counter, for any number of viewers."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from edge_runtime.cli_support import require_extra
from edge_runtime.errors import UsageError
from edge_runtime.pipeline.health import Health
from edge_runtime.results import Result
from edge_runtime.sinks.base import MonitoredSink
from edge_runtime.sinks.web.auth import WebAddress
from edge_runtime.sinks.web.images import LiveFeed

if TYPE_CHECKING:
    from edge_runtime.preprocess import ImageU8


_ANY = ("0.0.0.0", "::")  # noqa: S104  (named, to be shown as an address that can be reached)
_EXAMPLE_ADDRESSES = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}  # RFC 5737 and 3849


class WebSink(MonitoredSink):
    """The live page, metrics and health over HTTP, in its own thread, from the construction to `close`.

    The page shows ``health``, so each result must be added there before it is written here.

    Args:
        address: Host and port to listen on.
        name: Display name of the camera.
        labels: All labels of the model, in output order.
        health: State of the run.
        token: Token that a request must contain; required if other machines can reach the address.
        frame_ancestors: Origins whose pages may show this one in a frame, such as ``http://homeassistant.local:8123``.
        image_waits_s: Longest waits of a request for any image, and for the one after a number, in seconds.

    Raises:
        MissingExtraError: aiohttp or prometheus-client is not installed.
        OutputError: The server cannot listen there.
        UsageError: Other machines can reach the address, and there is no token.
    """

    def __init__(
        self,
        address: WebAddress,
        *,
        name: str,
        labels: Sequence[str],
        health: Health,
        token: str | None,
        frame_ancestors: Sequence[str] = (),
        image_waits_s: tuple[float, float] = (3.0, 10.0),
    ) -> None:
        if token is None and not address.is_loopback:
            raise UsageError(f"--web {address}: other machines can reach this address, so the page needs a token")
        require_extra("edge-run camera --web", "web", "aiohttp", "prometheus_client")
        from edge_runtime.sinks.web.routes import Handlers
        from edge_runtime.sinks.web.server import WebServer

        self.name, self.dropped = "web", 0
        self._closed = False
        self._feed = LiveFeed()
        make_handlers = partial(Handlers, name, tuple(labels), health, self._feed, image_waits_s)
        self._server = WebServer(address, token, self._feed, make_handlers, frame_ancestors)
        self.url = f"http://{WebAddress(_reachable(address.host), self._server.port)}/"

    @property
    def problem(self) -> str | None:  # type: ignore[override]
        """Problem of a server that has ended by itself, else None."""
        return None if self._closed or self._server.alive else "the web server has ended"

    def write(self, result: Result, image_hwc_rgb_u8: ImageU8 | None = None) -> None:
        """Count a result, and copy its frame, made smaller, if a client waits for one."""
        if not self._closed:
            self._feed.put(result, image_hwc_rgb_u8)

    def close(self) -> None:
        """Disconnect all clients and close the port."""
        self._closed = True
        self._server.close()


def _reachable(host: str) -> str:
    """Replace "all addresses" by the address that this machine sends from, or by its name."""
    if host not in _ANY:
        return host
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((_EXAMPLE_ADDRESSES[family], 9))  # sends nothing
            return str(probe.getsockname()[0])
    except OSError:
        return socket.gethostname()
