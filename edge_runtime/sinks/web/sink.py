"""The live page as a sink: each result costs the camera one counter, however many viewers there are."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING

from edge_runtime.cli_support import require_extra
from edge_runtime.errors import UsageError
from edge_runtime.pipeline.health import Health
from edge_runtime.results import Result
from edge_runtime.sinks.base import MonitoredSink
from edge_runtime.sinks.web.auth import WebAddress
from edge_runtime.sinks.web.images import Showcase

if TYPE_CHECKING:
    from edge_runtime.preprocess import ImageU8


_ANY = ("0.0.0.0", "::")  # noqa: S104  (named, to be shown as an address that can be reached)
_SOMEWHERE = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}  # for documentation, RFC 5737 and 3849


class WebSink(MonitoredSink):
    """Serves the live page, metrics and health from its construction to `close`, in a thread of its own.

    It shows what ``health`` says, so results are to be added there before they are written here.

    Args:
        address: Where to listen.
        name: Of the camera, as the page calls it.
        labels: Of the model, in its order.
        health: Of the run.
        token: What a client must show; required where other machines can reach the address.

    Raises:
        MissingExtraError: aiohttp or prometheus-client is not installed.
        OutputError: The address cannot be had.
        UsageError: There is no token and other machines can reach the address.
    """

    def __init__(
        self, address: WebAddress, *, name: str, labels: Sequence[str], health: Health, token: str | None
    ) -> None:
        if token is None and not address.is_loopback:
            raise UsageError(f"--web {address}: other machines can reach this address, so the page needs a token")
        require_extra("edge-run camera --web", "web", "aiohttp", "prometheus_client")
        from edge_runtime.sinks.web.server import WebServer

        self.name, self.dropped = "web", 0
        self._closed = False
        self._showcase = Showcase()
        self._server = WebServer(
            address, token, name=name, labels=tuple(labels), health=health, showcase=self._showcase
        )
        self.url = f"http://{WebAddress(_reachable(address.host), self._server.port)}/"

    @property
    def problem(self) -> str | None:  # type: ignore[override]
        """Says so when the server has ended by itself."""
        return None if self._closed or self._server.alive else "the page's server has ended"

    def write(self, result: Result, image_hwc_rgb_u8: ImageU8 | None = None) -> None:
        """Note that there is a result, and keep a small copy of its frame if a client waits for one."""
        if not self._closed:
            self._showcase.put(result, image_hwc_rgb_u8)

    def close(self) -> None:
        """Hang up on all clients and let go of the port."""
        self._closed = True
        self._server.close()


def _reachable(host: str) -> str:
    """The host to show: for "all addresses" the one that this machine would send from, else its name."""
    if host not in _ANY:
        return host
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((_SOMEWHERE[family], 9))  # sends nothing
            return str(probe.getsockname()[0])
    except OSError:
        return socket.gethostname()
