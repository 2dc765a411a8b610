"""Who may ask, and how: method, host, token. Everything that passes here is only ever read."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import time
from collections import OrderedDict
from importlib import resources
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from edge_runtime.sinks.web.address import WebAddress

SECURITY_HEADERS: Final = {
    "Server": "edgekit",
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_OPEN_PATHS: Final = frozenset({"/healthz", "/app.js", "/style.css", "/icon.svg"})
_SIGN_IN: Final = resources.files(__package__).joinpath("sign_in.html").read_text(encoding="utf-8")


class Guard:
    """Refuses what is not a plain reading request of someone who may.

    Args:
        address: Where the page listens; on this machine only, the host must be this machine too, or any web site
            could point its own name here and read on (DNS rebinding).
        token: What a request must show, or None.
    """

    def __init__(self, address: WebAddress, token: str | None) -> None:
        self._local, self._token = address.is_loopback, token
        # The cookie is not the token itself: browsers send it to every program of this host, whatever the port.
        self._session = hmac.new((token or "").encode(), b"edgekit page", hashlib.sha256).hexdigest()
        self._failures = Failures()

    def refusal(self, request: web.Request) -> web.Response | None:
        """The answer to a request that is not let through; None for one that is."""
        if request.method not in ("GET", "HEAD"):
            refused = web.Response(status=405, text="only GET and HEAD\n", headers={"Allow": "GET, HEAD"})
            refused.force_close()
            return refused
        if self._local and not is_local_host(request.headers.get("Host", "")):
            return web.Response(status=421, text="this page is for this machine only: ask for localhost\n")
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
        if self._failures.too_many(peer):
            return web.Response(
                status=429, text="too many wrong tokens: wait a minute\n", headers={"Retry-After": "60"}
            )
        right = _same(offered, token) if offered is not None else _same(cookie or "", self._session)
        if not right:
            self._failures.add(peer)
            response = _unauthorised(request)
            response.del_cookie(cookie_name)
            return response
        if request.path == "/" and "token" in request.query:
            # Out of the address bar, the history and what is copied from them.
            moved = web.Response(status=303, headers={"Location": "./"})
            moved.set_cookie(cookie_name, self._session, httponly=True, samesite="Strict", path="/")
            return moved
        return None


class Failures:
    """Counts wrong tokens per peer; the oldest peers are forgotten, so that this stays small."""

    _MOST, _WITHIN_S, _PEERS = 10, 60.0, 1024

    def __init__(self) -> None:
        self._peers: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def add(self, peer: str) -> None:
        """Count one."""
        since_s, count = self._peers.pop(peer, (time.monotonic(), 0))
        self._peers[peer] = (since_s, count + 1)
        if len(self._peers) > self._PEERS:
            self._peers.popitem(last=False)

    def too_many(self, peer: str) -> bool:
        """Whether this peer must wait."""
        since_s, count = self._peers.get(peer, (0.0, 0))
        if time.monotonic() - since_s > self._WITHIN_S:
            self._peers.pop(peer, None)
            return False
        return count >= self._MOST


def is_local_host(header: str) -> bool:
    """Whether a ``Host`` header means this machine: ``localhost``, 127.x.x.x or ::1, with any port."""
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
    # Cookies know no ports, and one board may run two cameras.
    address = request.transport.get_extra_info("sockname") if request.transport else None
    return f"edgekit_{address[1]}" if address else "edgekit"


def _unauthorised(request: web.Request) -> web.Response:
    headers = {"WWW-Authenticate": "Bearer"}
    if request.path == "/":
        return web.Response(status=401, text=_SIGN_IN, content_type="text/html", headers=headers)
    return web.Response(status=401, text="a token is needed\n", headers=headers)
