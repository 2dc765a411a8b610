"""HTTP cameras: multipart JPEG streams and JPEG snapshots.

OpenCV reads multipart streams too, but gives images partly filled with grey where a JPEG is cut off (measured: FFmpeg's
options against that do not reach its decoder). This module refuses a damaged JPEG.
"""

from __future__ import annotations

import collections
import http.client
import re
import select
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable

from edge_runtime.platform.net import http_opener, http_request, network_error
from edge_runtime.sources.capture.messages import CameraGoneError, Grab
from edge_runtime.sources.capture.strict_jpeg import decode_jpeg

MAX_PART_BYTES = 16 << 20
MAX_HEADER_BYTES = 16 << 10
_HEADER_END = re.compile(rb"\r?\n\r?\n")
_LENGTH = re.compile(rb"^content-length:[ \t]*(\d{1,12})[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
_TYPE = re.compile(rb"^content-type:[ \t]*([^\s;]+)", re.IGNORECASE | re.MULTILINE)
_BOUNDARY = re.compile(r';[ \t]*boundary=(?:"([^"]{1,200})"|([^\s;"]{1,200}))', re.IGNORECASE)


class MultipartError(Exception):
    """The stream does not match its declared type, or a part is too large."""


def boundary_of(content_type: str) -> bytes | None:
    """Return the separator of parts named by a Content-Type header, or None.

    Cameras disagree on whether the leading dashes belong to the name. They are replaced by one pair, which every
    variant of the line contains.
    """
    found = _BOUNDARY.search(content_type)
    if not found:
        return None
    name = (found[1] or found[2]).strip().lstrip("-")
    return b"--" + name.encode("latin-1", errors="replace") if name else None


class MultipartParser:
    """Split a multipart body into images as bytes arrive; at most one part is held in memory.

    Empty parts and parts that are no images are left out.

    Args:
        delimiter: Separator of parts, from `boundary_of`.
    """

    def __init__(self, delimiter: bytes) -> None:
        self._delimiter = delimiter
        self._held = bytearray()
        self._searched = 0
        self._header: bytes | None = None
        self._started = False
        self._skipped = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Add bytes; return the images that they complete, in order.

        Raises:
            MultipartError: A separator is missing, or a header or part is too large.
        """
        self._held += data
        images = []
        while (part := self._next()) is not None:
            kind = _TYPE.search(part[0])
            if part[1] and (kind is None or kind[1].lower().startswith((b"image/", b"application/octet"))):
                images.append(part[1])
        return images

    def _next(self) -> tuple[bytes, bytes] | None:
        """Take the header and body of the next complete part."""
        if not self._started and not self._skip_to_delimiter():
            return None
        if self._header is None:
            found = _HEADER_END.search(self._held)
            if not found:
                self._check(MAX_HEADER_BYTES, "header")
                return None
            self._header = b"\n" + bytes(self._held[: found.start()]).partition(b"\n")[2]
            del self._held[: found.end()]
            self._searched = 0
        header = self._header
        length = _LENGTH.search(header)
        body = self._by_length(int(length[1])) if length else self._by_delimiter()
        if body is None:
            return None
        self._header, self._started, self._searched = None, False, 0
        return header, body

    def _skip_to_delimiter(self) -> bool:
        at = self._held.find(self._delimiter)
        if at < 0:
            # The held bytes may end with the beginning of the delimiter.
            at = max(0, len(self._held) - len(self._delimiter) + 1)
            self._skipped += at
            del self._held[:at]
            if self._skipped > MAX_PART_BYTES:
                raise MultipartError(f"sends no line {self._delimiter!r} between its images")
            return False
        del self._held[:at]
        self._started, self._skipped = True, 0
        return True

    def _by_length(self, length: int) -> bytes | None:
        if length > MAX_PART_BYTES:
            raise MultipartError(f"announces an image of {length} bytes, expected at most {MAX_PART_BYTES}")
        if len(self._held) < length:
            return None
        body = bytes(self._held[:length])
        del self._held[:length]
        return body

    def _by_delimiter(self) -> bytes | None:
        at = self._held.find(self._delimiter, self._searched)
        if at < 0:
            self._check(MAX_PART_BYTES, "part")
            self._searched = max(0, len(self._held) - len(self._delimiter))
            return None
        body = bytes(self._held[:at])
        del self._held[:at]
        return body.removesuffix(b"--").removesuffix(b"\n").removesuffix(b"\r")

    def _check(self, limit: int, what: str) -> None:
        if len(self._held) > limit:
            raise MultipartError(f"sends a {what} of more than {limit} bytes, which no camera does")


TIMEOUT_S = 5.0
"""Time limit of the connection and of each read, in seconds."""

_BLOCK_BYTES = 1 << 18
_STREAM_TYPE = "multipart/x-mixed-replace"
_IMAGE_TYPES = ("image/jpeg", "image/jpg")
_SNAPSHOTS_PER_S = 2.0
_MOST_WAITING = 8
_LONGEST_SKIP_S = 1.0
_UNAUTHORIZED = (401, 403)


def open_http(address: str, fps: float | None, take_warnings: Callable[[], str]) -> HttpStream | HttpSnapshots | None:
    """Open an HTTP camera by the content type of its response.

    Args:
        address: URL with ``http://`` or ``https://``, and user name and password if needed (Basic, Digest).
        fps: Requests per second for a camera that sends one JPEG per request; None for 2.
        take_warnings: Warnings of native libraries since the last call, see `decode_jpeg`.

    Returns:
        A camera; None for a response of another type, which FFmpeg may read.

    Raises:
        CameraGoneError: There is no response, or an error.
    """
    opener, url = _opener(address)
    try:
        response = _request(opener, url)
    except http.client.BadStatusLine:
        return None  # not standard HTTP; FFmpeg knows more dialects
    kind = response.headers.get_content_type()
    if kind == _STREAM_TYPE:
        delimiter = boundary_of(response.headers.get("Content-Type", ""))
        if delimiter:
            return HttpStream(response, delimiter, take_warnings)
    if kind in _IMAGE_TYPES:
        return HttpSnapshots(response, lambda: _request(opener, url), 1 / (fps or _SNAPSHOTS_PER_S), take_warnings)
    response.close()
    return None


class HttpStream:
    """Endless multipart response with one JPEG in each part.

    Args:
        response: HTTP response whose body was not read yet.
        delimiter: Separator of parts, from `boundary_of`.
        take_warnings: Warnings of native libraries since the last call, see `decode_jpeg`.
    """

    note: str | None = None

    def __init__(self, response: http.client.HTTPResponse, delimiter: bytes, take_warnings: Callable[[], str]) -> None:
        self._response, self._take_warnings = response, take_warnings
        self._parser = MultipartParser(delimiter)
        self._waiting: collections.deque[bytes] = collections.deque()
        self._decoded_s = time.perf_counter()

    def read(self) -> Grab | None:
        """Wait for the next JPEG and decode it; see `Camera.read`."""
        if len(self._waiting) <= 1:
            self._receive()
        data = self._waiting.popleft()
        if self._waiting:
            return None  # a newer image has arrived
        self._decoded_s = time.perf_counter()
        return Grab(self._decoded_s, decode_jpeg(data, self._take_warnings), is_rgb=True)

    def _receive(self) -> None:
        """Read until a JPEG is complete, then everything that has arrived: buffered images grow old."""
        while not self._waiting or self._has_more():
            try:
                block = _read(self._response)
                if not block:
                    raise CameraGoneError("the server ended the stream")
                self._waiting.extend(self._parser.feed(block))
            except MultipartError as error:
                raise CameraGoneError(str(error)) from error
            except CameraGoneError:
                if not self._waiting:
                    raise
                return  # deliver the images that arrived before the end

    def _has_more(self) -> bool:
        # A server that sends without a pause must not prevent decoding.
        if len(self._waiting) > _MOST_WAITING or time.perf_counter() - self._decoded_s > _LONGEST_SKIP_S:
            return False
        if self._response.isclosed():
            return False
        return bool(select.select([self._response], [], [], 0)[0])

    def close(self) -> None:
        """Close the connection."""
        self._response.close()


class HttpSnapshots:
    """Camera that sends one JPEG per request.

    Args:
        response: Response to the first request.
        request: Function that sends the next request.
        period_s: Time from the start of one request to the next, in seconds.
        take_warnings: Warnings of native libraries since the last call, see `decode_jpeg`.
    """

    note: str | None = None

    def __init__(
        self,
        response: http.client.HTTPResponse,
        request: Callable[[], http.client.HTTPResponse],
        period_s: float,
        take_warnings: Callable[[], str],
    ) -> None:
        self._response: http.client.HTTPResponse | None = response
        self._request, self._period_s, self._take_warnings = request, period_s, take_warnings
        self._requested_s = time.perf_counter()

    def read(self) -> Grab | None:
        """Request a JPEG when it is due and decode it; see `Camera.read`."""
        if self._response is None:
            time.sleep(max(0.0, self._requested_s + self._period_s - time.perf_counter()))
            self._requested_s = time.perf_counter()
            try:
                self._response = self._request()
            except http.client.BadStatusLine as error:
                raise CameraGoneError("does not answer in HTTP any more") from error
        response, self._response = self._response, None
        data = bytearray()
        with response:
            while block := _read(response):
                data += block
                if len(data) > MAX_PART_BYTES:
                    raise CameraGoneError(f"sends an image of more than {MAX_PART_BYTES} bytes")
        return Grab(time.perf_counter(), decode_jpeg(bytes(data), self._take_warnings), is_rgb=True)

    def close(self) -> None:
        """Close the connection, if one is open."""
        if self._response is not None:
            self._response.close()


def _read(response: http.client.HTTPResponse) -> bytes:
    """Read what has arrived; empty at the end of the response."""
    try:
        return response.read1(_BLOCK_BYTES)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise CameraGoneError(network_error(error, TIMEOUT_S)) from error


def _opener(address: str) -> tuple[urllib.request.OpenerDirector, str]:
    """Make an opener with the credentials of an address; return it and the address without them.

    The opener supports http and https only, also after a redirect, and sends the password to no other host.
    """
    parts = urllib.parse.urlsplit(address)
    host = parts.netloc.rpartition("@")[2]
    url = urllib.parse.urlunsplit((parts.scheme, host, parts.path or "/", parts.query, ""))
    passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    if parts.username is not None:
        user, password = urllib.parse.unquote(parts.username), urllib.parse.unquote(parts.password or "")
        passwords.add_password(None, url, user, password)
    opener = http_opener(
        urllib.request.HTTPDigestAuthHandler(passwords),
        urllib.request.HTTPBasicAuthHandler(passwords),
        urllib.request.HTTPRedirectHandler(),
    )
    return opener, url


def _request(opener: urllib.request.OpenerDirector, url: str) -> http.client.HTTPResponse:
    try:
        response: http.client.HTTPResponse = opener.open(http_request(url), timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        error.close()
        advice = ": user name or password" if error.code in _UNAUTHORIZED else ""
        raise CameraGoneError(f"the server answered {error.code}{advice}") from error
    except urllib.error.URLError as error:
        raise CameraGoneError(network_error(error.reason, TIMEOUT_S)) from error
    except http.client.BadStatusLine:
        raise
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise CameraGoneError(network_error(error, TIMEOUT_S)) from error
    return response
