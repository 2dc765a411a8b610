"""Parse and check MQTT options: broker address, credentials, TLS and topics."""

from __future__ import annotations

import dataclasses
import hashlib
import ipaddress
import os
import re
import ssl
import unicodedata
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edge_runtime.errors import UsageError, shorten
from edge_runtime.platform.net import ascii_host, find_secret, read_secret

PASSWORD_VARIABLE = "EDGEKIT_MQTT_PASSWORD"  # noqa: S105  the name of a variable
PASSWORD_CREDENTIAL = "mqtt-password"  # noqa: S105  the name of a credential
_PORTS = {"mqtt": 1883, "mqtts": 8883}
_EXAMPLE = "mqtt://user@host:1883/prefix, or mqtts:// for TLS"
_MAX_PREFIX_BYTES = 200
_MAX_SLUG = 48
_MAX_USER_BYTES = 1024


@dataclass(frozen=True)
class MqttOptions:
    """Address of a broker, and settings of the connection.

    Attributes:
        host: Host name or IP address of the broker.
        port: TCP port of the broker.
        tls: True to encrypt the connection and check the broker's certificate.
        username: User name, or None for a broker without authentication.
        password: Password of the user, or None; never shown.
        prefix: First levels of every topic.
        ca_file: Trusted certificates, in place of the system's.
        cert_file: Client certificate, for a broker that requires one.
        key_file: Key of the client certificate, unless it is in the same file.
        discovery_prefix: Topic prefix of Home Assistant's discovery; None does not announce this camera.
        interval_s: Seconds between states while only the score changes.
        frames: True to publish images too.
        keepalive_s: Seconds after which a silent broker counts as lost.
        retry_s: First and longest pause between connection attempts, in seconds.
    """

    host: str
    port: int = 1883
    tls: bool = False
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    prefix: str = "edgekit"
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    discovery_prefix: str | None = "homeassistant"
    interval_s: float = 10.0
    frames: bool = False
    keepalive_s: int = 30
    retry_s: tuple[float, float] = (1.0, 60.0)

    @property
    def shown(self) -> str:
        """Address without its password, for messages."""
        user = f"{self.username}@" if self.username else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtts' if self.tls else 'mqtt'}://{user}{host}:{self.port}"


def parse_mqtt_url(text: str) -> MqttOptions:
    """Parse ``mqtt://user:password@host:1883/prefix``; only scheme and host are required.

    Raises:
        UsageError: The text is no such address; the message contains no password.
    """
    # Unescaped in a password, these would split it and show one half as a host or topic.
    if not text.isprintable() or any(char in text for char in " ?#\\"):
        raise _invalid_address(text, "a space, ?, # or \\ must be written as %20, %3F, %23 or %5C")
    try:
        parts = urllib.parse.urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise _invalid_address(text, "a / or @ in a password must be written as %2F or %40") from None
    if parts.scheme not in _PORTS or not host or not _is_host(host) or port == 0:
        raise _invalid_address(text)
    if "@" in parts.path or parts.netloc.count("@") > 1:
        raise _invalid_address(text, "a / or @ in a user name or password must be written as %2F or %40")
    username = _unquoted(text, parts.username)
    if username is not None and len(username.encode()) > _MAX_USER_BYTES:
        raise _invalid_address(text, "the user name is too long")
    password = _unquoted(text, parts.password, secret=True)
    if password and not username:
        raise _invalid_address(text, "a password needs a user name")
    prefix = _unquoted(text, parts.path.strip("/"))
    options = MqttOptions(host, port or _PORTS[parts.scheme], parts.scheme == "mqtts", username, password)
    return dataclasses.replace(options, prefix=check_topic(prefix)) if prefix else options


def check_topic(text: str) -> str:
    """Check a topic prefix and return it.

    Raises:
        UsageError: It has wildcards, control characters, empty levels or a leading ``$``, or is too long.
    """
    bad = not text.isprintable() or any(char in text for char in "+#") or "" in text.split("/")
    if bad or text.startswith("$") or len(text.encode("utf-8", "surrogatepass")) > _MAX_PREFIX_BYTES:
        raise UsageError(
            f"{shorten(repr(text))}: expected an MQTT topic such as home/cameras: levels divided by /, "
            f"no +, # or control characters, no $ at the start, at most {_MAX_PREFIX_BYTES} bytes"
        )
    return text


def with_password(
    options: MqttOptions, file: Path | None = None, environment: Mapping[str, str] = os.environ
) -> MqttOptions:
    """Fill in the password from the file, else the address, else ``EDGEKIT_MQTT_PASSWORD``, else systemd.

    Raises:
        UsageError: The file cannot be read, or there is no user name.
    """
    if file is not None:
        password: str | None = read_secret(file)
    else:
        password = options.password or find_secret(PASSWORD_VARIABLE, PASSWORD_CREDENTIAL, environment)
    if password and not options.username:
        raise UsageError(f"{options.shown}: the password needs a user name; write mqtt://user@{options.host}")
    return dataclasses.replace(options, password=password)


def tls_context(options: MqttOptions) -> ssl.SSLContext | None:
    """Make the TLS settings of the connection; None without TLS.

    Raises:
        UsageError: A certificate or key cannot be used, or is given without TLS.
    """
    files = (options.ca_file, options.cert_file, options.key_file)
    if not options.tls:
        if any(files):
            raise UsageError(f"{options.shown}: certificates need TLS; write mqtts:// instead of mqtt://")
        return None
    if options.key_file and not options.cert_file:
        raise UsageError(f"{options.key_file}: a key needs its certificate")
    try:
        context = ssl.create_default_context(cafile=options.ca_file)
    except OSError as error:
        raise UsageError(f"{options.ca_file}: expected certificates in PEM form ({_reason(error)})") from error
    context.sslsocket_class = _ClosingSocket
    if options.cert_file:
        try:
            # Without a password OpenSSL would prompt on the terminal.
            context.load_cert_chain(options.cert_file, options.key_file, password=lambda: "")
        except (OSError, ValueError) as error:
            raise UsageError(
                f"{options.cert_file}: expected a certificate and its key in PEM form, the key without a password "
                f"({_reason(error)})"
            ) from error
    return context


class _ClosingSocket(ssl.SSLSocket):
    # paho does not close a socket whose handshake has failed.
    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except OSError:
            self.close()
            raise


def slug(name: str) -> str:
    """Turn a name into a topic level and identifier of ASCII letters, digits, ``_`` and ``-``, never empty."""
    plain = "".join(char for char in unicodedata.normalize("NFKD", name) if not unicodedata.combining(char))
    short = re.sub(r"[^A-Za-z0-9_-]+", "_", plain).strip("_")
    if len(short) <= _MAX_SLUG and re.search(r"[A-Za-z0-9]", short):
        return short
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{short[: _MAX_SLUG - 9].strip('_-') or 'camera'}_{digest}"


def _is_host(host: str) -> bool:
    try:
        if ":" in host:
            return ipaddress.ip_address(host).version == 6
        return bool(re.fullmatch(r"[A-Za-z0-9._-]{1,253}", ascii_host(host)))
    except ValueError:
        return False


def _unquoted(text: str, part: str | None, *, secret: bool = False) -> str | None:
    if part is None:
        return None
    try:
        plain = urllib.parse.unquote(part, errors="strict")
        plain.encode("utf-8")
    except ValueError:
        raise _invalid_address(text, "a %XX in it is not UTF-8") from None
    if "\0" in plain or (not secret and not plain.isprintable()):
        raise _invalid_address(text, "it has control characters")
    return plain or None


def _invalid_address(text: str, why: str = "") -> UsageError:
    masked = re.sub(r"^([a-z]+://)?.*@", r"\1***@", text, flags=re.DOTALL)
    if masked == text and text.count(":") > 2:
        # It may be user:password without a host, so nothing of it is shown.
        masked = text.partition("://")[0] + "://***"
    return UsageError(f"{shorten(repr(masked))}: expected a broker such as {_EXAMPLE}{why and '; '}{why}")


def _reason(error: OSError | ValueError) -> str:
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
    return shorten(str(reason), 120)
