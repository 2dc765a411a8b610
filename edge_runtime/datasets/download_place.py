"""Where the download of one address lies in the cache, finished and unfinished.

``downloads/<name>-<hash>.zip``; while it is being fetched ``.part``; beside each a ``.json`` with what the server said
of that version (ETag, Last-Modified, size); and ``.lock``, held by the process that fetches. The address itself is not
written down, since it may carry an access token.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from edge_runtime.atomic import write_atomic
from edge_runtime.cache import cache_folder
from edge_runtime.datasets.http_fetch import Address
from edge_runtime.errors import OutputError

_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Version:
    """What the server said of one version of a file; empty or -1 where it said nothing."""

    etag: str = ""
    last_modified: str = ""
    size: int = -1

    @property
    def strong(self) -> str:
        """A validator that guarantees the same bytes, for If-Range; a weak ETag does not."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.last_modified


@dataclass(frozen=True)
class Place:
    """The files of one address: ``file`` once it is whole, ``part`` before."""

    file: Path

    @staticmethod
    def of(address: Address) -> Place:
        """The place of an address; two addresses never share one."""
        key = hashlib.sha256(address.url.encode()).hexdigest()[:16]
        stem = re.sub(r"[^A-Za-z0-9_-]+", "-", address.name)[:40].strip("-")
        return Place(cache_folder() / "downloads" / f"{stem}-{key}.zip")

    @property
    def part(self) -> Path:
        """What has been received of a file that is not whole yet."""
        return self.file.with_suffix(".part")

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Wait for another process that fetches the same file, so that two never write one ``part``.

        Raises:
            OutputError: The cache cannot be written.
        """
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

    def start(self, version: Version) -> None:
        """Forget what has been received and note which version is received now."""
        remove(self.part)
        write_atomic(_version_file(self.part), json.dumps(asdict(version)))

    def finish(self) -> None:
        """Give the part its final name."""
        # A version must never describe newer bytes than its file holds, so it goes first and comes last.
        _version_file(self.file).unlink(missing_ok=True)
        self.part.replace(self.file)
        _version_file(self.part).replace(_version_file(self.file))

    def check_room(self, missing_bytes: int, margin_bytes: int, shown: str) -> None:
        """Raise OutputError unless the disk can take so much and keep a margin."""
        free = shutil.disk_usage(self.file.parent).free - margin_bytes
        if missing_bytes > free:
            raise OutputError(
                f"{self.file.parent}: {shown} needs {missing_bytes / 2**20:,.0f} MiB, and "
                f"{max(free, 0) / 2**20:,.0f} MiB can be used; make room or set EDGEKIT_CACHE to a larger disk"
            )


def read_version(path: Path) -> Version:
    """What is known of the version of a file or part; nothing if its note is missing or damaged."""
    try:
        noted = json.loads(_version_file(path).read_text(encoding="utf-8"))
        return Version(str(noted["etag"]), str(noted["last_modified"]), int(noted["size"]))
    except (OSError, ValueError, KeyError, TypeError):
        return Version()


def remove(path: Path) -> None:
    """Remove a file or part, with its version."""
    path.unlink(missing_ok=True)
    _version_file(path).unlink(missing_ok=True)


def size_of(path: Path) -> int:
    """Bytes of a file; 0 where there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in lower-case hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _version_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")
