"""Findings of the doctor, each with a level and a remedy."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass


class Level(str, enum.Enum):
    """How much a finding matters."""

    OK = "ok"  # as it should be
    INFO = "info"  # good to know, nothing to do
    WARNING = "warning"  # it works, but not well, or not for long
    PROBLEM = "problem"  # something that edge-run needs does not work


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        topic: What was looked at, in a word or two, such as ``numpy`` or ``int8``.
        level: How much it matters.
        found: What was found, in one sentence.
        remedy: What to do, or None where there is nothing to do.
    """

    topic: str
    level: Level
    found: str
    remedy: str | None = None


def ok(topic: str, found: str) -> Finding:
    """All is well."""
    return Finding(topic, Level.OK, found)


def info(topic: str, found: str, remedy: str | None = None) -> Finding:
    """Good to know."""
    return Finding(topic, Level.INFO, found, remedy)


def warning(topic: str, found: str, remedy: str) -> Finding:
    """It works, but not well."""
    return Finding(topic, Level.WARNING, found, remedy)


def problem(topic: str, found: str, remedy: str) -> Finding:
    """It does not work."""
    return Finding(topic, Level.PROBLEM, found, remedy)


def count(findings: Sequence[Finding], level: Level) -> int:
    """How many findings are of a level."""
    return sum(finding.level is level for finding in findings)
