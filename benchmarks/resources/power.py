"""Energy of what is measured: a meter around a power reader, which subtracts what the idle board takes.

``meter.span()`` is all that a schedule needs; `benchmarks.resources.power_choice.open_meter` opens one. A person's own
reader is a program that prints watts, one a line: ``--power 'command:PROGRAM ARGUMENTS'``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

_IDLE_S = 2.0


class PowerReader(Protocol):
    """Something that tells energy, one span at a time."""

    name: str
    """As ``--power`` calls it."""

    covers: str
    """What the figure includes, such as ``the processor packages and their memory``."""

    def begin(self) -> None:
        """Begin a span; raises OSError where it cannot be read."""
        ...

    def end(self) -> float:
        """End the span: energy since its beginning in millijoules, idle or not; raises OSError likewise."""
        ...

    def close(self) -> None:
        """Release it; calling it again does nothing."""
        ...


@dataclass
class Span:
    """A stretch of time; its figures are there when it has ended.

    Attributes:
        duration_s: How long it was.
        energy_mj: Energy above idle in millijoules, which noise can make negative; None where the reader failed.
    """

    duration_s: float = 0.0
    energy_mj: float | None = None


class Meter:
    """A reader whose idle power is known. Measuring idle takes 2 s, so open it when nothing runs yet.

    Args:
        reader: What is read; closed with the meter.
        sleep: How the idle span is waited for, in seconds.
        clock_s: Seconds of a clock that never jumps.

    Attributes:
        name: Of the reader.
        covers: What the figures include.
        idle_w: Power before the first measurement, in watts.

    Raises:
        OSError: The reader cannot be read.
    """

    def __init__(
        self,
        reader: PowerReader,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock_s: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._reader, self._clock_s = reader, clock_s
        self.name, self.covers = reader.name, reader.covers
        started_s = clock_s()
        reader.begin()
        sleep(_IDLE_S)
        self.idle_w = reader.end() / 1e3 / (clock_s() - started_s)

    @contextmanager
    def span(self) -> Iterator[Span]:
        """Measure the block: ``with meter.span() as span: ...``, then ``span.energy_mj``. One at a time.

        A reader that fails gives None as the energy and does not disturb the block.
        """
        span, started_s, is_begun = Span(), self._clock_s(), self._begin()
        try:
            yield span
        finally:
            energy_mj = self._end() if is_begun else None
            span.duration_s = self._clock_s() - started_s
            if energy_mj is not None:
                span.energy_mj = energy_mj - self.idle_w * span.duration_s * 1e3

    def _begin(self) -> bool:
        try:
            self._reader.begin()
        except OSError:
            return False
        return True

    def _end(self) -> float | None:
        try:
            return self._reader.end()
        except OSError:
            return None

    def close(self) -> None:
        """Release the reader; calling it again does nothing."""
        self._reader.close()

    def __enter__(self) -> Meter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
