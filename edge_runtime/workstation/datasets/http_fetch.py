"""Request a file over HTTP: one request, errors in words, the body in blocks.

Only http and https are supported, also after redirects. Not `requests`: it would still need code for the crawl guard,
for redirects without reading their body and for these messages, and `edge_runtime.platform.net` has the rest.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from edge_runtime.errors import DatasetError, UsageError, shorten
from edge_runtime.platform.net import http_opener, http_request, is_temporary_status, network_error, percent_encode

_SCHEMES = ("http", "https")
_BLOCK_BYTES = 1 << 18
_SLOWEST_BYTES_PER_SECOND = 1024


@dataclass(frozen=True)
class Address:
    """Checked URL.

    Attributes:
        url: URL of the request.
        shown: URL for messages and reports, without its query, which may carry an access token.
        name: Last part of the path without ``.zip``, or the host.
    """

    url: str
    shown: str
    name: str


class UnreachableError(Exception):
    """There is no usable response; ``may_pass`` is True if another attempt may succeed. `download.py` handles it."""

    def __init__(self, message: str, *, may_pass: bool) -> None:
        super().__init__(message)
        self.may_pass = may_pass


class DroppedError(Exception):
    """The response broke off. `download.py` handles it."""


def parse_address(url: str) -> Address:
    """Check and encode a URL.

    Raises:
        UsageError: The URL is not http or https, or contains a password.
    """
    try:
        parts = urllib.parse.urlsplit(url.strip())
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise UsageError(f"{shorten(repr(url))}: not a URL ({error})") from error
    if parts.scheme not in _SCHEMES or not host:
        raise UsageError(f"{shorten(repr(url))}: expected an address such as https://example.org/photos.zip")
    if parts.username is not None:
        raise UsageError(f"{parts.scheme}://...@{host}: names and passwords in a URL are not supported; download it")
    path = percent_encode(parts.path or "/")
    query = percent_encode(parts.query)
    try:
        netloc = parts.netloc.encode("idna").decode("ascii")
    except UnicodeError as error:
        raise UsageError(f"{shorten(repr(url))}: not a host name ({error})") from error
    last = urllib.parse.unquote(parts.path.rstrip("/").rpartition("/")[2], errors="replace")
    name = "".join(letter for letter in last if letter.isprintable())
    return Address(
        urllib.parse.urlunsplit((parts.scheme, netloc, path, query, "")),
        f"{parts.scheme}://{netloc}{path}",
        name[:-4] if name.lower().endswith(".zip") and len(name) > 4 else name or host,
    )


def open_url(address: Address, headers: Mapping[str, str], timeout_s: float) -> http.client.HTTPResponse:
    """Send one GET request and follow its redirects.

    Args:
        address: Address of the file.
        headers: Additional request headers.
        timeout_s: Time limit of the connection and of each read, in seconds.

    Returns:
        A response of status 200, 206, 304 or 416; the caller closes it.

    Raises:
        UnreachableError: There is no response, or one with a temporary error.
        DatasetError: The response has another status.
    """
    try:
        response: http.client.HTTPResponse = http_opener(_Redirects()).open(
            http_request(address.url, headers), timeout=timeout_s
        )
    except urllib.error.HTTPError as error:
        if error.code in (304, 416) and isinstance(error.fp, http.client.HTTPResponse):
            return error.fp
        error.close()
        raise _status_error(address, error.code, error.reason) from error
    except urllib.error.URLError as error:
        raise _connection_error(address, error.reason, timeout_s) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _connection_error(address, error, timeout_s) from error
    if response.status not in (200, 206):
        response.close()
        raise _status_error(address, response.status, response.reason)
    return response


def blocks(response: http.client.HTTPResponse, shown: str, timeout_s: float) -> Iterator[bytes]:
    """Yield the body as it arrives; the caller counts bytes to detect an early end.

    Raises:
        DroppedError: The connection broke, sent nothing for ``timeout_s``, or less than 1 KiB/s for as long.
    """
    window_started, window_bytes = time.monotonic(), 0
    try:
        while block := response.read1(_BLOCK_BYTES):
            yield block
            window_bytes += len(block)
            elapsed_s = time.monotonic() - window_started
            if elapsed_s > timeout_s:
                if window_bytes < elapsed_s * _SLOWEST_BYTES_PER_SECOND:
                    raise DroppedError(f"{shown}: the server sends less than 1 KiB a second")
                window_started, window_bytes = time.monotonic(), 0
    except TimeoutError as error:
        raise DroppedError(f"{shown}: the server sent nothing for {timeout_s:g} s") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise DroppedError(f"{shown}: the connection broke ({network_error(error)})") from error


class _Redirects(urllib.request.HTTPRedirectHandler):
    # Python 3.10 does not handle 308.
    http_error_308 = urllib.request.HTTPRedirectHandler.http_error_302

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request:
        # urllib would read the body of the redirect to its end, however long it is.
        fp.close()
        if urllib.parse.urlsplit(newurl).scheme not in _SCHEMES:
            raise urllib.error.HTTPError(newurl, code, msg, headers, fp)
        return urllib.request.Request(newurl, headers=req.headers, unverifiable=True)  # noqa: S310  checked above


def _status_error(address: Address, status: int, reason: object) -> DatasetError | UnreachableError:
    message = f"{address.shown}: the server answered {status} ({shorten(str(reason), 60)!a})"
    if 300 <= status < 400:
        return DatasetError(
            f"{address.shown}: the server redirects ({status}) in a circle or to an address that is not http or https"
        )
    if is_temporary_status(status):
        return UnreachableError(f"{message}; try again later", may_pass=True)
    return DatasetError(f"{message}; check the address")


def _connection_error(address: Address, reason: object, timeout_s: float) -> UnreachableError | DatasetError:
    message = f"{address.shown}: {network_error(reason, timeout_s)}"
    if isinstance(reason, socket.gaierror):
        return UnreachableError(f"{message}; check the address and the network", may_pass=False)
    if isinstance(reason, ssl.SSLError):
        return DatasetError(f"{message}; check the address and the clock")
    if isinstance(reason, ConnectionRefusedError):
        return UnreachableError(f"{message}; check the address", may_pass=False)
    return UnreachableError(message, may_pass=True)
