"""Network addresses without their passwords, and credentials from files, the environment or systemd."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from edge_runtime.errors import UsageError

_USER = re.compile(r"(?<=://)([^/@:?]*):.*@")
_SECRET = re.compile(r"(?i)([?&;][^=&;]*(?:pass|pwd|token|secret|key|auth|sig|sess)[^=&;]*=)[^&;#]*")


def without_password(address: str) -> str:
    """An address as it may be printed: ``rtsp://user:***@host/`` for one with a password.

    Values in its query whose names sound like a secret (``pass``, ``token``, ``key`` ...) are hidden as well.
    """
    return _SECRET.sub(r"\1***", _USER.sub(r"\1:***@", address))


_MAX_BYTES = 4096


def find_secret(variable: str, credential: str, environment: Mapping[str, str]) -> str | None:
    """Look for a secret in the environment, then among the credentials that systemd gave to this service.

    Args:
        variable: Name of the environment variable, ``EDGEKIT_MQTT_PASSWORD``.
        credential: Name in systemd's ``LoadCredential=``, ``mqtt-password``.
        environment: As `os.environ`.

    Raises:
        UsageError: A credential that is there and cannot be read.
    """
    if environment.get(variable):
        return environment[variable]
    folder = environment.get("CREDENTIALS_DIRECTORY")
    path = Path(folder, credential) if folder else None
    return read_secret(path) if path and path.exists() else None


def read_secret(path: Path) -> str:
    """Read a secret from a file of one line; the end of the line does not belong to it.

    Raises:
        UsageError: The file cannot be read, or is not one line of text.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
        secret = content.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except OSError as error:
        raise UsageError(f"{path}: the secret in it cannot be read ({error.strerror})") from error
    except UnicodeDecodeError:
        # The error holds the bytes, so it must not be seen.
        raise UsageError(f"{path}: expected a secret in UTF-8, got other bytes") from None
    if not secret or len(content) > _MAX_BYTES or any(char in secret for char in "\n\r\0"):
        raise UsageError(f"{path}: expected a secret on one line of at most {_MAX_BYTES} bytes, got something else")
    return secret
