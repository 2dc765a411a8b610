"""Network addresses, connection errors, retries and credentials: one way to check and word them.

`urllib.request`, `ssl` and `socket` are imported where they are used: they take 30 ms of a cold start.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, quote, unquote

from edge_runtime.errors import UsageError, shorten
from edge_runtime.version import __version__

if TYPE_CHECKING:
    from urllib.request import BaseHandler, OpenerDirector, Request

# Kept as they are, as by `requests`; a space or an umlaut becomes %20 or %C3%A4.
_URL_CHARACTERS = "!#$%&'()*+,/:;=?@[]~"
_RETRY_STATUSES = (408, 425, 429)  # request timeout, too early, too many requests
_MAX_SECRET_BYTES = 4096


def check_credentials_encoded(flag: str, address: str) -> None:
    """Check that no user name or password ends the host of a URL early, since half of it would be shown as a host.

    Raises:
        UsageError: A / ? # or @ is not percent-encoded; the message shows nothing of the address.
    """
    rest = address.partition("://")[2]
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    mark, tail = rest[len(authority) :][:1], rest[len(authority) + 1 :]
    name, at, _ = tail.partition("@")
    port = re.fullmatch(r"(?:[^:]*|\[.*\])(?::([0-9]+))?", authority)
    is_password = {"/": not port or (port[1] and "?" not in name), "?": not port or "=" not in name, "#": True}
    if at and "@" not in authority and is_password[mark]:
        raise UsageError(
            f"{flag}: the address has a /, ?, # or @ in its user name or password; write it percent-encoded, "
            "as %2F, %3F, %23 or %40"
        )


def percent_encode(part: str) -> str:
    """Make a path or query fit for an HTTP request; what is encoded already stays."""
    return quote(part, safe=_URL_CHARACTERS)


def ascii_host(host: str) -> str:
    """Encode a host name with IDNA; an IPv6 address, without brackets, stays.

    Raises:
        ValueError: The name cannot be encoded.
    """
    return host if ":" in host else host.encode("idna").decode("ascii")


def url_credentials(parts: SplitResult) -> tuple[str, str] | None:
    """Decode the user name and password of a URL; a missing password is empty, and None means no user name.

    Raises:
        ValueError: A percent escape is not UTF-8.
    """
    if not parts.username:
        return None
    return unquote(parts.username, errors="strict"), unquote(parts.password or "", errors="strict")


def http_opener(*handlers: BaseHandler) -> OpenerDirector:
    """Make an opener for http and https only, which excludes `urllib`'s openers of files, FTP and data.

    Args:
        handlers: Handlers of redirects and authentication, which the opener would otherwise not follow or answer.
    """
    from urllib import request

    opener = request.OpenerDirector()
    ordinary = (request.ProxyHandler, request.HTTPHandler, request.HTTPSHandler, request.HTTPDefaultErrorHandler)
    for handler in (*ordinary, request.UnknownHandler, request.HTTPErrorProcessor):
        opener.add_handler(handler())
    for given in handlers:
        opener.add_handler(given)
    return opener


def http_request(url: str, headers: Mapping[str, str] | None = None) -> Request:
    """Make a GET request that names this program and takes the body uncompressed."""
    from urllib import request

    ours = {"User-Agent": f"edgekit/{__version__}", "Accept-Encoding": "identity"}
    return request.Request(url, headers={**ours, **(headers or {})})  # noqa: S310  for `http_opener`


def is_temporary_status(status: int) -> bool:
    """Tell whether an HTTP status suggests another attempt: busy, too early, or an error of the server."""
    return status in _RETRY_STATUSES or status >= 500


def network_error(error: object, timeout_s: float | None = None) -> str:
    """Describe an error of a connection in a few plain words, on one printable line of at most 200 characters.

    Args:
        error: An exception of `socket`, `ssl` or `http.client`, or the ``reason`` of a `urllib.error.URLError`.
        timeout_s: Time limit of the operation, in seconds; None uses the error's own text for a timeout.
    """
    import socket
    import ssl

    if isinstance(error, socket.gaierror):
        return f"the host cannot be found ({error.strerror})"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted ({error.verify_message})"
    if isinstance(error, ssl.SSLError):
        return f"no secure connection ({error.reason or 'broken off'})"
    if isinstance(error, TimeoutError) and timeout_s is not None:
        return f"no answer within {timeout_s:g} s"
    if isinstance(error, ConnectionRefusedError):
        return "the server refuses connections"
    text = " ".join((getattr(error, "strerror", None) or str(error) or type(error).__name__).split())
    return shorten(text if text.isprintable() else ascii(text), 200)


class RetryPolicy:
    """Exponential backoff: pauses double up to a limit, each shortened at random by up to half.

    The random part keeps many devices from reconnecting at one moment after a server's restart.

    Args:
        first_s: First pause, in seconds.
        longest_s: Longest pause, in seconds.
    """

    def __init__(self, first_s: float, longest_s: float) -> None:
        self._first_s = self._pause_s = first_s
        self._longest_s = longest_s

    def next_s(self) -> float:
        """Return the pause before the next attempt, in seconds."""
        pause_s, self._pause_s = self._pause_s, min(2 * self._pause_s, self._longest_s)
        return pause_s * random.uniform(0.5, 1.0)  # noqa: S311  no secret

    def reset(self) -> None:
        """Start again with the first pause."""
        self._pause_s = self._first_s


def find_secret(variable: str, credential: str, environment: Mapping[str, str]) -> str | None:
    """Look for a secret in the environment, then among the credentials that systemd gave to this service.

    Args:
        variable: Name of the environment variable, such as ``EDGEKIT_MQTT_PASSWORD``.
        credential: Name in systemd's ``LoadCredential=``, such as ``mqtt-password``.
        environment: Environment variables by name, usually `os.environ`.

    Raises:
        UsageError: The credential exists and cannot be read.
    """
    if environment.get(variable):
        return environment[variable]
    folder = environment.get("CREDENTIALS_DIRECTORY")
    path = Path(folder, credential) if folder else None
    return read_secret(path) if path and path.exists() else None


def read_secret(path: Path) -> str:
    """Read a secret from a file of one line, without the end of the line.

    Raises:
        UsageError: The file cannot be read, or is not one line of text.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_SECRET_BYTES + 1)
        secret = content.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except OSError as error:
        raise UsageError(f"{path}: the secret in it cannot be read ({error.strerror})") from error
    except UnicodeDecodeError:
        # The error holds the bytes, so it must not be seen.
        raise UsageError(f"{path}: expected a secret in UTF-8, got other bytes") from None
    if not secret or len(content) > _MAX_SECRET_BYTES or any(char in secret for char in "\n\r\0"):
        raise UsageError(
            f"{path}: expected a secret on one line of at most {_MAX_SECRET_BYTES} bytes, got something else"
        )
    return secret
