"""Where the live page listens: ``[HOST:]PORT``, on this machine only unless the host says more."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from edge_runtime.errors import UsageError

_LOOPBACK = "127.0.0.1"
_MAX_PORT = 65535
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST_NAME = re.compile(rf"(?=.{{1,253}}\Z)(?:{_LABEL}\.)*(?!\d+\Z){_LABEL}\Z")  # RFC 1123; a number is no last label
_CHOICES = "expected PORT or HOST:PORT, such as 8080, 0.0.0.0:8080 or [::1]:8080"


@dataclass(frozen=True)
class WebAddress:
    """A host and port to listen on.

    Attributes:
        host: IPv4 or IPv6 address without brackets, or a host name in lower case.
        port: 0..65535; 0 lets the system choose one.
    """

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it; a host name other than ``localhost`` counts as reachable."""
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
        UsageError: It is none of these.
    """
    host, colon, port = text.rpartition(":")
    if not (port.isascii() and port.isdecimal() and len(port) <= len(str(_MAX_PORT)) and int(port) <= _MAX_PORT):
        raise UsageError(f"--web {text!r}: {_CHOICES}, with a port of 0 to {_MAX_PORT}")
    return WebAddress(_host(text, host) if colon else _LOOPBACK, int(port))


def _host(text: str, host: str) -> str:
    try:
        if host.startswith("[") and host.endswith("]") and "%" not in host:
            return str(ipaddress.IPv6Address(host[1:-1]))
        if host.replace(".", "").isdecimal():
            return str(ipaddress.IPv4Address(host))
    except ipaddress.AddressValueError as error:
        raise UsageError(f"--web {text!r}: {_CHOICES}, got a host that is no address ({error})") from error
    if not _HOST_NAME.match(host.lower()):
        hint = "; an IPv6 address stands in brackets" if ":" in host else ""
        raise UsageError(f"--web {text!r}: {_CHOICES}{hint}")
    return host.lower()
