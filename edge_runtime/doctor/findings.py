"""Findings of the doctor: topic, level, sentence and remedy."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass

_TOPIC_WIDTH, _MARK_WIDTH = 15, 8


class Level(str, enum.Enum):
    """Importance of a finding."""

    OK = "ok"  # as it should be
    INFO = "info"  # nothing to do
    WARNING = "warning"  # works, but slowly, unreliably or not for long
    PROBLEM = "problem"  # something that edge-run needs does not work


_MARKS = {Level.OK: "ok", Level.INFO: "note", Level.WARNING: "WARNING", Level.PROBLEM: "PROBLEM"}


@dataclass(frozen=True)
class Finding:
    """Result of one check.

    Attributes:
        topic: Name of the checked part, one or two words such as ``numpy`` or ``int8``.
        level: Importance of the finding.
        found: Result in one sentence.
        remedy: Suggested fix, or None if there is nothing to do.
    """

    topic: str
    level: Level
    found: str
    remedy: str | None = None

    def lines(self) -> Iterator[str]:
        """Yield the finding as lines for a person."""
        yield f"{_MARKS[self.level]:{_MARK_WIDTH}}{self.topic:{_TOPIC_WIDTH}} {self.found}"
        if self.remedy:
            yield f"{'':{_MARK_WIDTH + _TOPIC_WIDTH}} to do: {self.remedy}"


def ok(topic: str, found: str) -> Finding:
    """Make a finding that is as it should be."""
    return Finding(topic, Level.OK, found)


def info(topic: str, found: str, remedy: str | None = None) -> Finding:
    """Make a finding without need to act."""
    return Finding(topic, Level.INFO, found, remedy)


def warning(topic: str, found: str, remedy: str) -> Finding:
    """Make a finding about something that works badly."""
    return Finding(topic, Level.WARNING, found, remedy)


def problem(topic: str, found: str, remedy: str) -> Finding:
    """Make a finding about something that does not work."""
    return Finding(topic, Level.PROBLEM, found, remedy)
