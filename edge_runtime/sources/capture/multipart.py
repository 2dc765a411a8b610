"""The parts of an HTTP answer of type ``multipart/x-mixed-replace``, which is how cameras send a JPEG after another."""

from __future__ import annotations

import re

MAX_PART_BYTES = 16 << 20
MAX_HEADER_BYTES = 16 << 10
_HEADER_END = re.compile(rb"\r?\n\r?\n")
_LENGTH = re.compile(rb"^content-length:[ \t]*(\d{1,12})[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
_TYPE = re.compile(rb"^content-type:[ \t]*([^\s;]+)", re.IGNORECASE | re.MULTILINE)
_BOUNDARY = re.compile(r';[ \t]*boundary=(?:"([^"]{1,200})"|([^\s;"]{1,200}))', re.IGNORECASE)


class MultipartError(Exception):
    """The stream is not what it says it is, or a part is too large; reading on makes no sense."""


def boundary_of(content_type: str) -> bytes | None:
    """The line that separates parts, from a Content-Type header; None where it names none.

    Cameras disagree on whether the dashes in front of the line are a part of the name, so they are taken off here and
    one pair is put back: whatever the camera means, its line contains this.
    """
    found = _BOUNDARY.search(content_type)
    if not found:
        return None
    name = (found[1] or found[2]).strip().lstrip("-")
    return b"--" + name.encode("latin-1", errors="replace") if name else None


class MultipartParser:
    """Takes bytes as they arrive and gives the body of each picture that is complete.

    Parts of a type other than a picture's are left out, and so are empty ones. At most one part is held.

    Args:
        delimiter: As `boundary_of` gave it.
    """

    def __init__(self, delimiter: bytes) -> None:
        self._delimiter = delimiter
        self._held = bytearray()
        self._searched = 0
        self._header: bytes | None = None
        self._started = False
        self._skipped = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Add bytes; give the pictures that they complete, in order.

        Raises:
            MultipartError: No separating line where one must be, or a header or part that is too large.
        """
        self._held += data
        pictures = []
        while (part := self._next()) is not None:
            kind = _TYPE.search(part[0])
            if part[1] and (kind is None or kind[1].lower().startswith((b"image/", b"application/octet"))):
                pictures.append(part[1])
        return pictures

    def _next(self) -> tuple[bytes, bytes] | None:
        """Header and body of the next complete part, taken from what is held."""
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
            # The end of what is held may be the beginning of the delimiter.
            at = max(0, len(self._held) - len(self._delimiter) + 1)
            self._skipped += at
            del self._held[:at]
            if self._skipped > MAX_PART_BYTES:
                raise MultipartError(f"sends no line {self._delimiter!r} between its pictures")
            return False
        del self._held[:at]
        self._started, self._skipped = True, 0
        return True

    def _by_length(self, length: int) -> bytes | None:
        if length > MAX_PART_BYTES:
            raise MultipartError(f"announces a picture of {length} bytes, expected at most {MAX_PART_BYTES}")
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
