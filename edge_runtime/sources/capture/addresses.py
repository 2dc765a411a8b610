"""Addresses of network cameras, as they may be shown."""

from __future__ import annotations

import re

_USER = re.compile(r"(?<=://)([^/@:?]*):.*@")
_SECRET = re.compile(r"(?i)([?&;][^=&;]*(?:pass|pwd|token|secret|key|auth|sig|sess)[^=&;]*=)[^&;#]*")


def without_password(address: str) -> str:
    """An address as it may be printed: ``rtsp://user:***@host/`` for one with a password.

    Values in its query whose names sound like a secret (``pass``, ``token``, ``key`` ...) are hidden as well.
    """
    return _SECRET.sub(r"\1***", _USER.sub(r"\1:***@", address))
