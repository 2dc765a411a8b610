"""Health of a camera run: written by its loop, read by the live page, the watchdog and the summary."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from edge_runtime.results import Classified, LatencyMs, Result, SourceState, StateChange


class Monitored(Protocol):
    """Sink that continues after its own failures. The attributes may be read from any thread."""

    name: str
    """Name in health and metrics, such as ``mqtt``, ``webhook`` or ``output``."""

    dropped: int
    """Number of results that could not be delivered."""

    problem: str | None
    """Current problem in one sentence, or None."""


_RECENT = 512
_RATE_WINDOW_S = 5.0


@dataclass(frozen=True)
class SinkHealth:
    """Health of one sink: number of lost results, and the current problem or None."""

    name: str
    dropped: int
    problem: str | None


@dataclass(frozen=True)
class Snapshot:
    """State of a run at one moment. Durations are by a monotonic clock.

    Attributes:
        uptime_s: Seconds since the start of the run.
        state: State of the source; None before its first report.
        state_reason: Reason for the state, or None.
        answering_s: Seconds from the first answered frame to the last answer.
        answered: Number of classified frames.
        skipped: Number of frames skipped in favour of a newer one.
        events: Number of decisions that are events.
        reconnects: Number of reconnections of the source.
        frames_per_second: Answers per second over the last 5 seconds; 0 without answers.
        last_answer_age_s: Seconds since the last answer; None before the first.
        age_ms: Ages of recent answers, sorted, in milliseconds; see `edge_runtime.results.FrameStamp`.
        latency_ms: Stage times of the last answer, or None.
        last: Last answer, or None.
        sinks: Health of the monitored sinks.
    """

    uptime_s: float
    state: SourceState | None
    state_reason: str | None
    answering_s: float
    answered: int
    skipped: int
    events: int
    reconnects: int
    frames_per_second: float
    last_answer_age_s: float | None
    age_ms: tuple[float, ...]
    latency_ms: LatencyMs | None
    last: Classified | None
    sinks: tuple[SinkHealth, ...]

    @property
    def healthy(self) -> bool:
        """True if there are answers and the source is connected; a video file reports no state."""
        return self.state in (None, SourceState.CONNECTED) and self.answered > 0

    def __str__(self) -> str:
        """Summarize the run in one line."""
        if not self.answered:
            return "no frames"
        rate = self.answered / max(self.answering_s, 1e-9)
        text = f"{self.answered} frame{'' if self.answered == 1 else 's'} in {self.answering_s:.1f} s ({rate:.1f}/s)"
        text += f", {self.skipped} skipped" if self.skipped else ""
        text += f", {self.events} event{'' if self.events == 1 else 's'}" if self.events else ""
        text += f", {self.reconnects} reconnect{'' if self.reconnects == 1 else 's'}" if self.reconnects else ""
        return text + (f", p50 age {self.age_ms[len(self.age_ms) // 2]:.1f} ms" if self.age_ms else "")


class Health:
    """Counters of a camera run. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sinks: Sequence[Monitored] = ()
        self._started_s = time.perf_counter()
        self._first_s: float | None = None
        self._state: SourceState | None = None
        self._reason: str | None = None
        self._answered = self._events = self._connects = 0
        self._last_number = -1
        self._last: Classified | None = None
        self._ages_ms: deque[float] = deque(maxlen=_RECENT)
        self._times_s: deque[float] = deque(maxlen=_RECENT)

    def watch(self, sinks: Sequence[Monitored]) -> None:
        """Set the sinks whose problems snapshots include."""
        self._sinks = tuple(sinks)

    def add(self, result: Result) -> None:
        """Count an answer or a change of the source."""
        now_s = time.perf_counter()
        with self._lock:
            if isinstance(result, StateChange):
                self._state, self._reason = result.state, result.reason
                self._connects += result.state is SourceState.CONNECTED
            elif isinstance(result, Classified):
                self._answered += 1
                self._events += result.decision is not None and result.decision.event
                self._last = result
                self._times_s.append(now_s)
                if self._first_s is None:
                    self._first_s = now_s - (result.frame.age_ms / 1e3 if result.frame else 0.0)
                if result.frame:
                    self._last_number = result.frame.number
                    self._ages_ms.append(result.frame.age_ms)

    def snapshot(self) -> Snapshot:
        """Return the current state."""
        now_s = time.perf_counter()
        with self._lock:
            last_s = self._times_s[-1] if self._times_s else None
            recent = [moment_s for moment_s in self._times_s if now_s - moment_s <= _RATE_WINDOW_S]
            span_s = now_s - recent[0] if recent else 0.0
            return Snapshot(
                uptime_s=now_s - self._started_s,
                state=self._state,
                state_reason=self._reason,
                answering_s=last_s - self._first_s if last_s and self._first_s else 0.0,
                answered=self._answered,
                skipped=max(0, self._last_number + 1 - self._answered),
                events=self._events,
                reconnects=max(0, self._connects - 1),
                frames_per_second=(len(recent) - 1) / span_s if len(recent) > 1 else 0.0,
                last_answer_age_s=None if last_s is None else now_s - last_s,
                age_ms=tuple(sorted(self._ages_ms)),
                latency_ms=self._last.latency_ms if self._last else None,
                last=self._last,
                sinks=tuple(SinkHealth(sink.name, sink.dropped, sink.problem) for sink in self._sinks),
            )
