"""What sinks cannot do, told on standard error, because a journal or a log has no line that updates itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from edge_runtime.cli_support import note
from edge_runtime.health import Health, SinkHealth, Snapshot
from edge_runtime.sinks.text import escape

LOOK_EVERY_S = 5.0
SAY_AGAIN_AFTER_S = 60.0


class TroubleLog:
    """Tells of a sink's trouble when it begins and when it is over, at most once a minute each.

    Args:
        health: Of the run.
        say: Takes one line.
    """

    def __init__(self, health: Health, say: Callable[[str], None] = note) -> None:
        self._health, self._say = health, say
        # A broker needs a moment to be connected.
        self._next_look_s = time.monotonic() + LOOK_EVERY_S
        self._said: set[str] = set()
        self._may_say_s: dict[str, float] = {}

    def look(self) -> None:
        """Say what is new, if it is time to look; called for each result."""
        now_s = time.monotonic()
        if now_s < self._next_look_s:
            return
        self._next_look_s = now_s + LOOK_EVERY_S
        for sink in self._health.snapshot().sinks:
            self._look_at(sink, now_s)

    def _look_at(self, sink: SinkHealth, now_s: float) -> None:
        if sink.problem is None:
            if sink.name in self._said:
                self._said.discard(sink.name)
                self._say(f"{sink.name}: works again")
        elif sink.name not in self._said and now_s >= self._may_say_s.get(sink.name, 0.0):
            self._said.add(sink.name)
            self._may_say_s[sink.name] = now_s + SAY_AGAIN_AFTER_S
            self._say(f"warning: {sink.name}: {escape(sink.problem)}")


def losses(snapshot: Snapshot) -> Iterator[str]:
    """One line for each sink that has lost results, or is in trouble, for the end of a run."""
    for sink in snapshot.sinks:
        lost = f"{sink.dropped} result{'' if sink.dropped == 1 else 's'} not passed on" if sink.dropped else ""
        problem = escape(sink.problem) if sink.problem else ""
        if lost or problem:
            yield f"warning: {sink.name}: {f'{lost} ({problem})' if lost and problem else lost or problem}"
