"""Parse and check the address and token of the live page."""

from __future__ import annotations

import ipaddress
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from edge_runtime.errors import UsageError, shorten

_LOOPBACK = "127.0.0.1"
_MAX_PORT = 65535
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST_NAME = re.compile(rf"(?=.{{1,253}}\Z)(?:{_LABEL}\.)*(?!\d+\Z){_LABEL}\Z")  # RFC 1123; a number is no last label
TOKEN_VARIABLE = "EDGEKIT_WEB_TOKEN"  # noqa: S105  (the name of a variable)
_MIN_LENGTH, _MAX_LENGTH = 16, 256
_RANDOM_BYTES = 24
_CHOICES = "expected PORT or HOST:PORT, such as 8080, 0.0.0.0:8080 or [::1]:8080"


@dataclass(frozen=True)
class WebAddress:
    """Host and port to listen on.

    Attributes:
        host: IPv4 or IPv6 address without brackets, or a host name in lower case.
        port: 0..65535; 0 lets the system choose one.
    """

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """True if only this machine can reach it; a host name other than ``localhost`` counts as reachable."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_web_address(text: str) -> WebAddress:
    """Parse ``PORT``, ``HOST:PORT`` or ``[IPV6]:PORT``; a port alone means this machine only.

    Raises:
        UsageError: The text has another form.
    """
    host, colon, port = text.rpartition(":")
    if not (port.isascii() and port.isdecimal() and len(port) <= len(str(_MAX_PORT)) and int(port) <= _MAX_PORT):
        raise UsageError(f"--web {text!r}: {_CHOICES}, with a port of 0 to {_MAX_PORT}")
    return WebAddress(_host(text, host) if colon else _LOOPBACK, int(port))


def parse_frame_ancestors(text: str) -> tuple[str, ...]:
    """Parse the origins, separated by spaces, whose pages may show the live page in a frame.

    Raises:
        UsageError: One is no origin, since anything else would change the page's content security policy.
    """
    origins = tuple(text.split())
    for origin in origins:
        scheme, _, place = origin.partition("://")
        host, colon, port = place.partition(":")
        name = host.removeprefix("*.").lower()
        good_port = not colon or (port.isascii() and port.isdecimal() and 0 < int(port[:6]) <= _MAX_PORT)
        if scheme not in ("http", "https") or not good_port or not (_HOST_NAME.match(name) or _is_ipv4(name)):
            raise UsageError(
                f"--web-frame-ancestors {shorten(repr(origin))}: expected an origin such as "
                "http://homeassistant.local:8123, without a path"
            )
    return origins


def _is_ipv4(host: str) -> bool:
    try:
        return bool(ipaddress.IPv4Address(host))
    except ipaddress.AddressValueError:
        return False


def _host(text: str, host: str) -> str:
    try:
        if host.startswith("[") and host.endswith("]") and "%" not in host:
            return str(ipaddress.IPv6Address(host[1:-1]))
        if host.replace(".", "").isdecimal():
            return str(ipaddress.IPv4Address(host))
    except ipaddress.AddressValueError as error:
        raise UsageError(f"--web {text!r}: {_CHOICES}, got an invalid host address ({error})") from error
    if not _HOST_NAME.match(host.lower()):
        hint = "; write an IPv6 address in brackets" if ":" in host else ""
        raise UsageError(f"--web {text!r}: {_CHOICES}{hint}")
    return host.lower()


@dataclass(frozen=True)
class Token:
    """A token of 16 to 256 printable ASCII characters without spaces.

    Attributes:
        text: The secret text; never shown in messages.
        generated: True if it was generated just now, so that it must be shown to the user.
    """

    text: str = field(repr=False)
    generated: bool


def choose_token(
    address: WebAddress, token_file: Path | None = None, environment: Mapping[str, str] = os.environ
) -> Token | None:
    """Read the token from a file, else from `TOKEN_VARIABLE`, else generate one if other machines reach the address.

    Returns:
        The token; None if only this machine can reach the page and no token was given.

    Raises:
        UsageError: The file cannot be read, or the token is invalid.
    """
    if token_file is not None:
        where = f"--web-token-file {token_file}"
        try:
            with token_file.open("rb") as file:
                text = file.read(_MAX_LENGTH + 2).decode("ascii", errors="replace")
        except OSError as error:
            raise UsageError(f"{where}: cannot be read ({error.strerror})") from error
        return Token(_checked(text, where), generated=False)
    if environment.get(TOKEN_VARIABLE):
        return Token(_checked(environment[TOKEN_VARIABLE], TOKEN_VARIABLE), generated=False)
    return None if address.is_loopback else Token(secrets.token_urlsafe(_RANDOM_BYTES), generated=True)


def sign_in_url(url: str, token: Token | None) -> str:
    """Return the URL to open, with the token only if it was generated."""
    return f"{url}?token={quote(token.text, safe='')}" if token and token.generated else url


def _checked(text: str, where: str) -> str:
    token = text.strip()
    if not (_MIN_LENGTH <= len(token) <= _MAX_LENGTH and token.isascii() and token.isprintable() and " " not in token):
        raise UsageError(
            f"{where}: expected a token of {_MIN_LENGTH} to {_MAX_LENGTH} letters, digits and signs without spaces, "
            f"got {len(token)} characters; openssl rand -hex 16 makes one"
        )
    return token
