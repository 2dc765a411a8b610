"""The secret that opens the live page to other machines."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from edge_runtime.errors import UsageError
from edge_runtime.sinks.web.address import WebAddress

TOKEN_VARIABLE = "EDGEKIT_WEB_TOKEN"  # noqa: S105  (the name of a variable)
_MIN_LENGTH, _MAX_LENGTH = 16, 256
_RANDOM_BYTES = 24


@dataclass(frozen=True)
class Token:
    """A secret of 16 to 256 printable ASCII characters without blanks.

    Attributes:
        text: The secret.
        generated: Whether it was made up just now, so that nobody knows it until it is shown.
    """

    text: str = field(repr=False)
    generated: bool


def choose_token(
    address: WebAddress, token_file: Path | None = None, environment: Mapping[str, str] = os.environ
) -> Token | None:
    """The token from a file, else from `TOKEN_VARIABLE`, else a new one where other machines can reach the address.

    Returns:
        None where the page is for this machine only and no token was given.

    Raises:
        UsageError: The file cannot be read, or holds or the variable is no token.
    """
    if token_file is not None:
        return Token(_checked(_read(token_file), f"--web-token-file {token_file}"), generated=False)
    if environment.get(TOKEN_VARIABLE):
        return Token(_checked(environment[TOKEN_VARIABLE], TOKEN_VARIABLE), generated=False)
    return None if address.is_loopback else Token(secrets.token_urlsafe(_RANDOM_BYTES), generated=True)


def sign_in_url(url: str, token: Token | None) -> str:
    """The address to open: with the token in it only when it was made up, since others know theirs."""
    return f"{url}?token={quote(token.text, safe='')}" if token and token.generated else url


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_LENGTH + 2).decode("ascii", errors="replace")
    except OSError as error:
        raise UsageError(f"--web-token-file {path}: cannot be read ({error.strerror})") from error


def _checked(text: str, where: str) -> str:
    token = text.strip()
    if not (_MIN_LENGTH <= len(token) <= _MAX_LENGTH and token.isascii() and token.isprintable() and " " not in token):
        raise UsageError(
            f"{where}: expected a token of {_MIN_LENGTH} to {_MAX_LENGTH} letters, digits and signs without blanks, "
            f"got {len(token)} characters; openssl rand -hex 16 makes one"
        )
    return token
