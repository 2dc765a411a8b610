"""What a sink says of its own trouble, so that health need not know sinks."""

from __future__ import annotations

from typing import Protocol


class Monitored(Protocol):
    """A sink that goes on through trouble of its own. The attributes may be read from any thread."""

    name: str
    """``mqtt``, ``webhook``, ``output`` ..., as health and metrics call it."""

    dropped: int
    """Results that it could not pass on."""

    problem: str | None
    """What is wrong at the moment, in one sentence; None while all is well."""
