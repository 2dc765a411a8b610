"""Fetch a zip from the web once, so that a broken connection or a killed process costs only what was not sent yet."""

from __future__ import annotations

import contextlib
import http.client
import re
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.datasets.download_place import Place, Version, read_version, remove, sha256_of, size_of
from edge_runtime.datasets.http_fetch import Address, DroppedError, UnreachableError, blocks, open_url
from edge_runtime.errors import DatasetError, OutputError
from edge_runtime.progress import ProgressBars, silent


@dataclass(frozen=True)
class Terms:
    """How long a download is tried, and how much is taken.

    Attributes:
        timeout_s: For a connection, and for each wait for more bytes.
        attempts: Failures in a row, each after little progress, before giving up.
        backoff_s: Pause after the first failure; it doubles with each.
        progress_bytes: An attempt that brought as much starts the count of failures again.
        most_bytes: Largest file that is taken.
        disk_margin_bytes: Left free on the disk.
    """

    timeout_s: float = 30.0
    attempts: int = 5
    backoff_s: float = 1.0
    progress_bytes: int = 8 << 20
    most_bytes: int = 50 << 30
    disk_margin_bytes: int = 256 << 20


_DEFAULT_TERMS = Terms()


def fetch(
    address: Address, *, sha256: str | None = None, progress: ProgressBars = silent, terms: Terms = _DEFAULT_TERMS
) -> Path:
    """Download a zip into the cache, or find it there.

    A finished download is used again: with ``sha256``, if it matches, without asking the server; else if the server
    says that it is unchanged (ETag or Last-Modified), or if the server cannot be reached at all. A server that tells
    neither is asked for the whole file each time. An unfinished one goes on where it stopped, if the server still has
    the same version.

    Args:
        address: Where it is.
        sha256: What the whole file must hash to, in lower-case hex, or None.
        progress: Shows the bytes.
        terms: Patience and size.

    Returns:
        The zip, in the cache.

    Raises:
        DatasetError: The server, the network or what was sent; one sentence. A file with another hash is removed.
        OutputError: The cache cannot take it.
    """
    place = Place.of(address)
    with place.locked():
        if sha256 and place.file.is_file() and sha256_of(place.file) == sha256:
            return place.file
        _Download(address, place, progress, terms).run()
        if sha256 and (found := sha256_of(place.file)) != sha256:
            remove(place.file)
            raise DatasetError(
                f"{address.shown}: expected the SHA-256 {sha256}, got {found}; the file was removed, so check the "
                "address and the checksum"
            )
    return place.file


def forget(address: Address) -> None:
    """Remove a finished download that turned out to be useless, so that it is not used again."""
    remove(Place.of(address).file)


@dataclass(frozen=True)
class _Download:
    address: Address
    place: Place
    progress: ProgressBars
    terms: Terms

    def run(self) -> None:
        """Attempt by attempt, until the file is whole or patience ends."""
        failures, began = 0, False
        while True:
            before = size_of(self.place.part)
            try:
                self._attempt()
                return
            except (UnreachableError, DroppedError) as error:
                began = began or isinstance(error, DroppedError)
                received = size_of(self.place.part) - before
                failures = 1 if received >= self.terms.progress_bytes else failures + 1
                hopeless = isinstance(error, UnreachableError) and not error.may_pass and not began
                if hopeless or failures >= self.terms.attempts:
                    if self.place.file.is_file() and not began:
                        return
                    raise DatasetError(f"{error}{self._what_is_kept()}") from error
            time.sleep(self.terms.backoff_s * 2 ** (failures - 1))

    def _attempt(self) -> None:
        """One request: what is missing of the part, or the whole file unless the finished one is still current."""
        have, version = size_of(self.place.part), read_version(self.place.part)
        if have and have == version.size:
            self._finish()
            return
        headers = self._headers(have, version)
        with contextlib.closing(open_url(self.address, headers, self.terms.timeout_s)) as response:
            if response.status == 304:
                return
            if response.status == 200:
                have, version = 0, _announced(response)
            elif not _continues(response, have, version):
                remove(self.place.part)
                raise DroppedError(f"{self.address.shown}: the server cannot go on where the download stopped")
            self._check_size(version.size)
            self.place.check_room(version.size - have, self.terms.disk_margin_bytes, self.address.shown)
            self._receive(response, have, version)
        self._finish()

    def _headers(self, have: int, version: Version) -> dict[str, str]:
        if have and version.strong:
            return {"Range": f"bytes={have}-", "If-Range": version.strong}
        if not self.place.file.is_file():
            return {}
        finished = read_version(self.place.file)
        headers = {"If-None-Match": finished.etag, "If-Modified-Since": finished.last_modified}
        return {name: value for name, value in headers.items() if value}

    def _receive(self, response: http.client.HTTPResponse, have: int, version: Version) -> None:
        part = self.place.part
        try:
            if not have:
                self.place.start(version)
            with self.progress("downloading", max(version.size, 0)) as advance, part.open("ab") as file:
                advance(have)
                for block in blocks(response, self.address.shown, self.terms.timeout_s):
                    have += len(block)
                    self._check_size(have)
                    file.write(block)
                    advance(len(block))
        except OSError as error:
            remove(part)
            raise OutputError(
                f"{part}: cannot be written ({error.strerror}); make room or set EDGEKIT_CACHE to another folder"
            ) from error
        if version.size not in (-1, have):
            raise DroppedError(f"{self.address.shown}: the connection ended after {have:,} of {version.size:,} bytes")

    def _check_size(self, size: int) -> None:
        if size > self.terms.most_bytes:
            remove(self.place.part)
            most = f"{self.terms.most_bytes:,}"
            raise DatasetError(f"{self.address.shown}: expected a file of at most {most} bytes, got more")

    def _finish(self) -> None:
        part = self.place.part
        if not zipfile.is_zipfile(part):
            what = _kind(part)
            remove(part)
            raise DatasetError(f"{self.address.shown}: expected a zip of class folders, got {what}; check the address")
        self.place.finish()

    def _what_is_kept(self) -> str:
        size = size_of(self.place.part)
        resumable = size and read_version(self.place.part).strong
        return f"; {size:,} bytes are kept, and the same command goes on from there" if resumable else ""


def _announced(response: http.client.HTTPResponse) -> Version:
    size = response.length if response.length is not None else -1
    return Version(response.headers.get("ETag", ""), response.headers.get("Last-Modified", ""), size)


def _continues(response: http.client.HTTPResponse, have: int, version: Version) -> bool:
    said = response.headers.get("Content-Range", "")
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", said)
    return match is not None and int(match[1]) == have and match[2] in ("*", str(version.size))


def _kind(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(512).lstrip()
    if start.startswith(b"<"):
        return "a web page"
    return "a zip that is cut off or damaged" if start.startswith(b"PK") else "another kind of file"
