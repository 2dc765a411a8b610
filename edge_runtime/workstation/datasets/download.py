"""Download a zip once into the cache, resuming after a broken connection or a killed process.

Cache files: ``downloads/<name>-<hash>.zip``, during the download ``.part``; beside each a ``.json`` with the version
(ETag, Last-Modified, size); and ``.lock``, held by the downloading process. The address is not stored, since it may
carry an access token.

Only http and https are supported, also after redirects. Not `requests`: it would still need code for the crawl guard,
for redirects without reading their body and for these messages, and `edge_runtime.platform.net` has the rest.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import http.client
import json
import re
import socket
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edge_runtime.errors import DatasetError, OutputError, UsageError, shorten
from edge_runtime.model.bundle import file_sha256
from edge_runtime.platform import net
from edge_runtime.platform.atomic import check_room, write_atomic
from edge_runtime.platform.process import cache_folder
from edge_runtime.progress import ProgressBars, silent

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


def parse_address(url: str) -> Address:
    """Check and encode a URL.

    Raises:
        UsageError: The URL is not http or https, or contains a password.
    """
    net.check_credentials_encoded("data set", url)
    try:
        parts = urllib.parse.urlsplit(url.strip())
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise UsageError(f"{shorten(repr(url))}: not a URL ({error})") from error
    if parts.scheme not in _SCHEMES or not host:
        raise UsageError(f"{shorten(repr(url))}: expected an address such as https://example.org/photos.zip")
    if parts.username is not None:
        raise UsageError(f"{parts.scheme}://...@{host}: names and passwords in a URL are not supported; download it")
    path = net.percent_encode(parts.path or "/")
    query = net.percent_encode(parts.query)
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


@dataclass(frozen=True)
class _RemoteVersion:
    """Version of a file by the server; empty or -1 where unknown."""

    etag: str = ""
    last_modified: str = ""
    size: int = -1

    @property
    def strong(self) -> str:
        """Validator that guarantees the same bytes, for If-Range; a weak ETag does not."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.last_modified


@dataclass(frozen=True)
class _Place:
    """Cache files of one address: ``file`` when complete, ``part`` before."""

    file: Path

    @staticmethod
    def of(address: Address) -> _Place:
        key = hashlib.sha256(address.url.encode()).hexdigest()[:16]
        stem = re.sub(r"[^A-Za-z0-9_-]+", "-", address.name)[:40].strip("-")
        return _Place(cache_folder() / "downloads" / f"{stem}-{key}.zip")

    @property
    def part(self) -> Path:
        return self.file.with_suffix(".part")

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Wait for another process that downloads the same file, so that two never write one ``part``."""
        lock = self.file.with_suffix(".lock")
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            file = lock.open("w")
            # Released with the file, also when the process is killed.
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            raise OutputError(f"{lock}: cannot be written ({error.strerror}); set EDGEKIT_CACHE elsewhere") from error
        with file:
            yield

    def start(self, version: _RemoteVersion) -> None:
        """Discard received bytes and record the version of the new download."""
        _remove(self.part)
        write_atomic(_version_file(self.part), json.dumps(asdict(version)))

    def finish(self) -> None:
        # A version must never describe newer bytes than its file, so it is removed first and added last.
        _version_file(self.file).unlink(missing_ok=True)
        self.part.replace(self.file)
        _version_file(self.part).replace(_version_file(self.file))


def _read_version(path: Path) -> _RemoteVersion:
    """Read the recorded version of a file or part; unknown if the record is missing or damaged."""
    try:
        noted = json.loads(_version_file(path).read_text(encoding="utf-8"))
        return _RemoteVersion(str(noted["etag"]), str(noted["last_modified"]), int(noted["size"]))
    except (OSError, ValueError, KeyError, TypeError):
        return _RemoteVersion()


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    _version_file(path).unlink(missing_ok=True)


def _size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _version_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


@dataclass(frozen=True)
class DownloadLimits:
    """Limits of a download.

    Attributes:
        timeout_s: Time limit of a connection and of each read, in seconds.
        attempts: Consecutive failures with little progress before giving up.
        backoff_s: First pause between attempts, in seconds, see `RetryPolicy`.
        progress_bytes: Received bytes of an attempt that reset the count of failures.
        most_bytes: Largest accepted file, in bytes.
        disk_margin_bytes: Space to leave free on the disk, in bytes.
    """

    timeout_s: float = 30.0
    attempts: int = 5
    backoff_s: float = 1.0
    progress_bytes: int = 8 << 20
    most_bytes: int = 50 << 30
    disk_margin_bytes: int = 256 << 20


_DEFAULT_LIMITS = DownloadLimits()


def fetch(
    address: Address,
    *,
    sha256: str | None = None,
    progress: ProgressBars = silent,
    limits: DownloadLimits = _DEFAULT_LIMITS,
) -> Path:
    """Download a zip into the cache, or find it there.

    A complete download is reused: without a request if it matches ``sha256``; else if the server confirms that it is
    unchanged (ETag or Last-Modified) or cannot be reached. Without these headers the file is downloaded each time. An
    incomplete download continues if the server still has the same version.

    Args:
        address: Address of the zip.
        sha256: Expected SHA-256 of the file in lower-case hex, or None.
        progress: Progress bars for the bytes.
        limits: Limits on time and size.

    Returns:
        Path of the zip in the cache.

    Raises:
        DatasetError: The server, the network or the content failed; a file with another hash is removed.
        OutputError: The cache cannot be written.
    """
    place = _Place.of(address)
    with place.locked():
        if sha256 and place.file.is_file() and file_sha256(place.file) == sha256:
            return place.file
        _Download(address, place, progress, limits).run()
        if sha256 and (found := file_sha256(place.file)) != sha256:
            _remove(place.file)
            raise DatasetError(
                f"{address.shown}: expected the SHA-256 {sha256}, got {found}; the file was removed, so check the "
                "address and the checksum"
            )
    return place.file


def forget(address: Address) -> None:
    """Remove a complete download that turned out to be unusable."""
    _remove(_Place.of(address).file)


@dataclass(frozen=True)
class _Download:
    address: Address
    place: _Place
    progress: ProgressBars
    limits: DownloadLimits

    def run(self) -> None:
        """Try until the file is complete or the attempts are used up."""
        failures, has_started = 0, False
        retry = net.RetryPolicy(self.limits.backoff_s, longest_s=60.0)
        while True:
            before = _size_of(self.place.part)
            try:
                self._attempt()
                return
            except (_UnreachableError, _DroppedError) as error:
                has_started = has_started or isinstance(error, _DroppedError)
                if _size_of(self.place.part) - before >= self.limits.progress_bytes:
                    failures = 0
                    retry.reset()
                failures += 1
                is_permanent = isinstance(error, _UnreachableError) and not error.may_pass and not has_started
                if is_permanent or failures >= self.limits.attempts:
                    if self.place.file.is_file() and not has_started:
                        return
                    raise DatasetError(f"{error}{self._resume_hint()}") from error
            time.sleep(retry.next_s())

    def _attempt(self) -> None:
        """Request the rest of the part, or the whole file unless the complete one is current."""
        have, version = _size_of(self.place.part), _read_version(self.place.part)
        if have and have == version.size:
            self._finish()
            return
        headers = self._headers(have, version)
        with contextlib.closing(_open_url(self.address, headers, self.limits.timeout_s)) as response:
            if response.status == 304:
                return
            if response.status == 200:
                have, version = 0, _announced(response)
            elif not _continues(response, have, version):
                _remove(self.place.part)
                raise _DroppedError(f"{self.address.shown}: the server cannot go on where the download stopped")
            self._check_size(version.size)
            folder = self.place.file.parent
            check_room(folder, max(0, version.size - have), self.limits.disk_margin_bytes, self.address.shown)
            self._receive(response, have, version)
        self._finish()

    def _headers(self, have: int, version: _RemoteVersion) -> dict[str, str]:
        if have and version.strong:
            return {"Range": f"bytes={have}-", "If-Range": version.strong}
        if not self.place.file.is_file():
            return {}
        finished = _read_version(self.place.file)
        headers = {"If-None-Match": finished.etag, "If-Modified-Since": finished.last_modified}
        return {name: value for name, value in headers.items() if value}

    def _receive(self, response: http.client.HTTPResponse, have: int, version: _RemoteVersion) -> None:
        part = self.place.part
        try:
            if not have:
                self.place.start(version)
            with self.progress("downloading", max(version.size, 0)) as advance, part.open("ab") as file:
                advance(have)
                for block in _blocks(response, self.address.shown, self.limits.timeout_s):
                    have += len(block)
                    self._check_size(have)
                    if version.size == -1:  # the server has not announced a length
                        check_room(part.parent, len(block), self.limits.disk_margin_bytes, self.address.shown)
                    file.write(block)
                    advance(len(block))
        except OSError as error:
            _remove(part)
            raise OutputError(
                f"{part}: cannot be written ({error.strerror}); make room or set EDGEKIT_CACHE to another folder"
            ) from error
        except OutputError:
            _remove(part)
            raise
        if version.size not in (-1, have):
            raise _DroppedError(f"{self.address.shown}: the connection ended after {have:,} of {version.size:,} bytes")

    def _check_size(self, size: int) -> None:
        if size > self.limits.most_bytes:
            _remove(self.place.part)
            most = f"{self.limits.most_bytes:,}"
            raise DatasetError(f"{self.address.shown}: expected a file of at most {most} bytes, got more")

    def _finish(self) -> None:
        part = self.place.part
        if not zipfile.is_zipfile(part):
            what = _kind(part)
            _remove(part)
            raise DatasetError(f"{self.address.shown}: expected a zip of class folders, got {what}; check the address")
        self.place.finish()

    def _resume_hint(self) -> str:
        size = _size_of(self.place.part)
        resumable = size and _read_version(self.place.part).strong
        return f"; {size:,} bytes are kept, and the same command goes on from there" if resumable else ""


def _announced(response: http.client.HTTPResponse) -> _RemoteVersion:
    size = response.length if response.length is not None else -1
    return _RemoteVersion(response.headers.get("ETag", ""), response.headers.get("Last-Modified", ""), size)


def _continues(response: http.client.HTTPResponse, have: int, version: _RemoteVersion) -> bool:
    content_range = response.headers.get("Content-Range", "")
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", content_range)
    return match is not None and int(match[1]) == have and match[2] in ("*", str(version.size))


def _kind(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(512).lstrip()
    if start.startswith(b"<"):
        return "a web page"
    return "a zip that is cut off or damaged" if start.startswith(b"PK") else "another kind of file"


class _UnreachableError(Exception):
    """There is no usable response; ``may_pass`` is True if another attempt may succeed."""

    def __init__(self, message: str, *, may_pass: bool) -> None:
        super().__init__(message)
        self.may_pass = may_pass


class _DroppedError(Exception):
    """The response broke off."""


def _open_url(address: Address, headers: Mapping[str, str], timeout_s: float) -> http.client.HTTPResponse:
    """Send one GET request and follow its redirects; return a response of status 200, 206, 304 or 416."""
    try:
        response: http.client.HTTPResponse = net.http_opener(_Redirects()).open(
            net.http_request(address.url, headers), timeout=timeout_s
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


def _blocks(response: http.client.HTTPResponse, shown: str, timeout_s: float) -> Iterator[bytes]:
    """Yield the body as it arrives; an early end is the caller's to see, a slow or broken connection an error."""
    window_started, window_bytes = time.monotonic(), 0
    try:
        while block := response.read1(_BLOCK_BYTES):
            yield block
            window_bytes += len(block)
            elapsed_s = time.monotonic() - window_started
            if elapsed_s > timeout_s:
                if window_bytes < elapsed_s * _SLOWEST_BYTES_PER_SECOND:
                    raise _DroppedError(f"{shown}: the server sends less than 1 KiB a second")
                window_started, window_bytes = time.monotonic(), 0
    except TimeoutError as error:
        raise _DroppedError(f"{shown}: the server sent nothing for {timeout_s:g} s") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _DroppedError(f"{shown}: the connection broke ({net.network_error(error)})") from error


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


def _status_error(address: Address, status: int, reason: object) -> DatasetError | _UnreachableError:
    message = f"{address.shown}: the server answered {status} ({shorten(str(reason), 60)!a})"
    if 300 <= status < 400:
        return DatasetError(
            f"{address.shown}: the server redirects ({status}) in a circle or to an address that is not http or https"
        )
    if net.is_temporary_status(status):
        return _UnreachableError(f"{message}; try again later", may_pass=True)
    return DatasetError(f"{message}; check the address")


def _connection_error(address: Address, reason: object, timeout_s: float) -> _UnreachableError | DatasetError:
    message = f"{address.shown}: {net.network_error(reason, timeout_s)}"
    if isinstance(reason, socket.gaierror):
        return _UnreachableError(f"{message}; check the address and the network", may_pass=False)
    if isinstance(reason, ssl.SSLError):
        return DatasetError(f"{message}; check the address and the clock")
    if isinstance(reason, ConnectionRefusedError):
        return _UnreachableError(f"{message}; check the address", may_pass=False)
    return _UnreachableError(message, may_pass=True)
