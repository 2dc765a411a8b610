"""Energy meter and the readers behind it: hardware counters, sampled power, and a program that prints watts.

`benchmarks.resources.power_meters.open_meter` opens a meter, and ``meter.span()`` measures a block. A user's own reader
is a program that prints watts, one value per line: ``--power 'command:PROGRAM ARGUMENTS'``.
"""

from __future__ import annotations

import contextlib
import math
import shlex
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Protocol

IDLE_S = 2.0
STALE_S = 5.0
_LONGEST_LINE = 1000


class PowerReader(Protocol):
    """Reader of energy, one span at a time."""

    name: str
    """Name as in ``--power``."""

    covers: str
    """Description of what the figure includes, such as ``the CPU packages and their memory``."""

    def begin(self) -> None:
        """Begin a span; raises OSError if the reader fails."""
        ...

    def end(self) -> float:
        """End the span and return its energy in millijoules, idle power included; raises OSError likewise."""
        ...

    def close(self) -> None:
        """Release the reader; repeated calls do nothing."""
        ...


@dataclass
class Span:
    """A measured period; its figures are set when it has ended.

    Attributes:
        duration_s: Duration in seconds.
        energy_mj: Energy above idle in millijoules, which noise can make negative; None if the reader failed.
    """

    duration_s: float = 0.0
    energy_mj: float | None = None


class Meter(AbstractContextManager["Meter"]):
    """A reader with known idle power, closed with the meter.

    Measuring idle takes 2 s, so open it before anything runs; OSError if the reader fails.

    Attributes:
        name: Name of the reader.
        covers: Description of what the figures include.
        idle_w: Power before the first measurement, in watts.
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
        sleep(IDLE_S)
        self.idle_w = reader.end() / 1e3 / (clock_s() - started_s)

    @contextmanager
    def span(self) -> Iterator[Span]:
        """Measure the block: ``with meter.span() as span: ...``, then ``span.energy_mj``; one span at a time.

        If the reader fails, the energy is None and the block goes on.
        """
        span, started_s, is_begun = Span(), self._clock_s(), False
        with contextlib.suppress(OSError):
            self._reader.begin()
            is_begun = True
        try:
            yield span
        finally:
            energy_mj = None
            with contextlib.suppress(OSError):
                energy_mj = self._reader.end() if is_begun else None
            span.duration_s = self._clock_s() - started_s
            if energy_mj is not None:
                span.energy_mj = energy_mj - self.idle_w * span.duration_s * 1e3

    def __exit__(self, *_: object) -> None:
        self._reader.close()


def read_number(path: Path) -> float:
    """Read the number in a small kernel file; raises OSError if it cannot be read or holds no number."""
    with path.open("rb") as file:
        text = file.read(64).decode("ascii", "replace").strip()
    try:
        return float(text)
    except ValueError as error:
        raise OSError(f"{path}: expected a number, got {text!r}") from error


@dataclass(frozen=True)
class Counter:
    """An energy counter in microjoules, and the range after which it restarts from 0; None if unknown."""

    path: Path
    range_uj: int | None

    def between(self, before_uj: float, after_uj: float) -> float:
        """Compute the energy between two readings; raises OSError if the counter went back by itself."""
        if after_uj >= before_uj:
            return after_uj - before_uj
        if self.range_uj is None:
            raise OSError(f"{self.path}: went back from {before_uj:.0f} to {after_uj:.0f}")
        return after_uj - before_uj + self.range_uj


class CounterReader(PowerReader):
    """Sum of energy counters of the hardware.

    A span must be shorter than one period of a counter: 262 kJ on x86, so 44 minutes at 100 W.
    """

    def __init__(self, name: str, covers: str, counters: Sequence[Counter]) -> None:
        self.name, self.covers, self.counters = name, covers, tuple(counters)
        self._before_uj: list[float] = []

    def begin(self) -> None:
        """Read the counters; see `PowerReader.begin`."""
        self._before_uj = [read_number(counter.path) for counter in self.counters]

    def end(self) -> float:
        """Return the counted energy; see `PowerReader.end`."""
        pairs = zip(self.counters, self._before_uj, strict=True)
        return sum(counter.between(before_uj, read_number(counter.path)) for counter, before_uj in pairs) / 1e3

    def close(self) -> None:
        """Do nothing: no resource is open."""


class Repeater:
    """Thread that calls a function after each period between `start` and `stop`.

    Attributes:
        failure: OSError that ended the calls, or None.
    """

    def __init__(self, work: Callable[[], object], period_s: float, name: str) -> None:
        self._work, self._period_s, self._name = work, period_s, name
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.failure: OSError | None = None

    def start(self) -> None:
        """Start calling."""
        self.stop()
        self.failure = None
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop calling and wait for the thread; repeated calls do nothing."""
        self._stop.set()
        if self._thread:
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while not self._stop.wait(self._period_s):
            try:
                self._work()
            except OSError as error:
                self.failure = error
                return


class SampledReader(PowerReader):
    """Power that is sampled during a span and integrated by the trapezoidal rule.

    Sampling uses energy too; the idle power is sampled in the same way, so this cancels out.

    Attributes:
        read_w: Function that returns watts, or raises OSError.
        samples: Samples of the span (seconds, watts).
        repeater: Thread that takes the samples.
    """

    def __init__(
        self,
        name: str,
        covers: str,
        read_w: Callable[[], float],
        period_s: float = 0.05,
        release: Callable[[], None] = lambda: None,
    ) -> None:
        self.name, self.covers, self.read_w, self._release = name, covers, read_w, release
        self.samples: list[tuple[float, float]] = []
        self.repeater = Repeater(self._sample, period_s, "power")

    def begin(self) -> None:
        """Take the first sample and start sampling; see `PowerReader.begin`."""
        self.repeater.stop()
        self.samples = []
        self._sample()
        self.repeater.start()

    def end(self) -> float:
        """Stop sampling, with a last sample; see `PowerReader.end`."""
        self.repeater.stop()
        if self.repeater.failure:
            raise self.repeater.failure
        self._sample()
        return integrate_mj(self.samples)

    def close(self) -> None:
        """Stop sampling and release the source."""
        self.repeater.stop()
        self._release()

    def _sample(self) -> None:
        self.samples.append((time.perf_counter(), self.read_w()))


def integrate_mj(samples: Sequence[tuple[float, float]]) -> float:
    """Integrate power samples (seconds, watts) in order of time by the trapezoidal rule, to millijoules."""
    areas_j = [(end_s - start_s) * (start_w + end_w) / 2 for (start_s, start_w), (end_s, end_w) in pairwise(samples)]
    return sum(areas_j) * 1e3


class PrintedPower:
    """Newest number printed by a program, one per line; other lines are ignored.

    The command is split as in a terminal, without a shell: ValueError if its quotes do not match, OSError if the
    program cannot be started.

    Attributes:
        process: The running program.
    """

    def __init__(self, command: str) -> None:
        self.process = subprocess.Popen(
            shlex.split(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self._newest: tuple[float, float] | None = None
        self._arrived = threading.Event()
        threading.Thread(target=self._listen, name="power program", daemon=True).start()

    def wait(self, timeout_s: float = 10.0) -> bool:
        """Wait for the first number; False if none came."""
        return self._arrived.wait(timeout_s) and self._newest is not None

    def read_w(self) -> float:
        """Return the newest number; raises OSError if none came for 5 s."""
        newest = self._newest
        if newest is None or time.perf_counter() - newest[0] > STALE_S:
            raise OSError(f"the program of --power printed no number for {STALE_S:.0f} s")
        return newest[1]

    def close(self) -> None:
        """End the program."""
        self.process.terminate()
        try:
            self.process.wait(2)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _listen(self) -> None:
        with self.process.stdout or contextlib.nullcontext() as output:
            while output and (line := output.readline(_LONGEST_LINE)):
                with contextlib.suppress(ValueError):
                    watts = float(line)
                    if math.isfinite(watts):
                        self._newest = time.perf_counter(), watts
                        self._arrived.set()
        self._arrived.set()
