"""Energy meter and the readers behind it: hardware counters, sampled power, and a program that prints watts.

``meter.span()`` is all that a schedule needs; `benchmarks.resources.power_meters.open_meter` opens one. A person's own
reader is a program that prints watts, one a line: ``--power 'command:PROGRAM ARGUMENTS'``.
"""

from __future__ import annotations

import contextlib
import math
import shlex
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Protocol

from edge_runtime.platform.board import read_text

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


SAMPLE_PERIOD_S = 0.05
_STALE_S = 5.0
_FIRST_LINE_S = 10.0
_LONGEST_LINE = 1000


def read_number(path: Path) -> float:
    """The number in a small kernel file.

    Raises:
        OSError: It cannot be read, or holds no number.
    """
    with path.open("rb") as file:
        text = file.read(64).decode("ascii", "replace").strip()
    try:
        return float(text)
    except ValueError as error:
        raise OSError(f"{path}: expected a number, got {text!r}") from error


@dataclass(frozen=True)
class Counter:
    """An energy counter in microjoules, and where it begins again from 0; None where that is not known."""

    path: Path
    range_uj: int | None


class CounterReader(PowerReader):
    """Energy that the hardware counts.

    A span may be no longer than a counter takes to come round once: 262 kJ on x86, so 44 minutes at 100 W.
    """

    def __init__(self, name: str, covers: str, counters: Sequence[Counter]) -> None:
        self.name, self.covers, self._counters = name, covers, tuple(counters)
        self._before_uj: list[float] = []

    def begin(self) -> None:
        """Read the counters; see `PowerReader.begin`."""
        self._before_uj = self._read_uj()

    def end(self) -> float:
        """What they counted; see `PowerReader.end`."""
        pairs = zip(self._counters, self._before_uj, self._read_uj(), strict=True)
        return sum(_counted_uj(counter, before_uj, after_uj) for counter, before_uj, after_uj in pairs) / 1e3

    def close(self) -> None:
        """Nothing is held open."""

    def _read_uj(self) -> list[float]:
        return [read_number(counter.path) for counter in self._counters]


def _counted_uj(counter: Counter, before_uj: float, after_uj: float) -> float:
    if after_uj >= before_uj:
        return after_uj - before_uj
    if counter.range_uj is None:
        raise OSError(f"{counter.path}: went back from {before_uj:.0f} to {after_uj:.0f}")
    return after_uj - before_uj + counter.range_uj


class SampledReader(PowerReader):
    """Power that is read again and again while a span lasts, summed by the trapezoidal rule.

    Reading costs energy too; the idle power is read in the same way, so that this cancels out.

    Args:
        name: As ``--power`` calls it.
        covers: What the figure includes.
        read_w: Gives watts, or raises OSError.
        period_s: Seconds between two readings.
        release: Called when it is closed.
    """

    def __init__(
        self,
        name: str,
        covers: str,
        read_w: Callable[[], float],
        period_s: float = SAMPLE_PERIOD_S,
        release: Callable[[], None] = lambda: None,
    ) -> None:
        self.name, self.covers = name, covers
        self._read_w, self._period_s, self._release = read_w, period_s, release
        self._samples: list[tuple[float, float]] = []
        self._failure: OSError | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Take the first sample and start sampling; see `PowerReader.begin`."""
        self._finish()
        self._samples, self._failure = [self._sample()], None
        self._stop.clear()
        self._thread = threading.Thread(target=self._watch, name="power", daemon=True)
        self._thread.start()

    def end(self) -> float:
        """Stop sampling, with a last sample; see `PowerReader.end`."""
        self._finish()
        if self._failure:
            raise self._failure
        self._samples.append(self._sample())
        return integrate_mj(self._samples)

    def close(self) -> None:
        """Stop sampling and release what is read."""
        self._finish()
        self._release()

    def _finish(self) -> None:
        self._stop.set()
        if self._thread:
            self._thread.join()
            self._thread = None

    def _sample(self) -> tuple[float, float]:
        return time.perf_counter(), self._read_w()

    def _watch(self) -> None:
        while not self._stop.wait(self._period_s):
            try:
                self._samples.append(self._sample())
            except OSError as error:
                self._failure = error
                return


def integrate_mj(samples: Sequence[tuple[float, float]]) -> float:
    """Energy in millijoules of power samples (seconds, watts) in order of time, by the trapezoidal rule."""
    areas_j = [(end_s - start_s) * (start_w + end_w) / 2 for (start_s, start_w), (end_s, end_w) in pairwise(samples)]
    return sum(areas_j) * 1e3


class PrintedPower:
    """The newest number that a program printed, one a line; other lines are passed over.

    Args:
        command: As a person types it; no shell is involved.

    Raises:
        OSError: It cannot be started.
        ValueError: The quotes do not match.
    """

    def __init__(self, command: str) -> None:
        self._process = subprocess.Popen(
            shlex.split(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self._newest: tuple[float, float] | None = None
        self._arrived = threading.Event()
        threading.Thread(target=self._listen, name="power program", daemon=True).start()

    def wait(self, timeout_s: float = _FIRST_LINE_S) -> bool:
        """Wait for the first number; False where none came."""
        return self._arrived.wait(timeout_s) and self._newest is not None

    def read_w(self) -> float:
        """The newest number.

        Raises:
            OSError: None came for 5 s.
        """
        newest = self._newest
        if newest is None or time.perf_counter() - newest[0] > _STALE_S:
            raise OSError(f"the program of --power printed no number for {_STALE_S:.0f} s")
        return newest[1]

    def close(self) -> None:
        """End the program."""
        self._process.terminate()
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _listen(self) -> None:
        output = self._process.stdout
        if output is None:
            return
        with contextlib.closing(output):
            while line := output.readline(_LONGEST_LINE):
                watts = _number_of(line)
                if watts is not None:
                    self._newest = time.perf_counter(), watts
                    self._arrived.set()
        self._arrived.set()


def _number_of(line: bytes) -> float | None:
    try:
        watts = float(line)
    except ValueError:
        return None
    return watts if math.isfinite(watts) else None


def describe_program(command: str) -> str:
    """How a report names a person's own reader: its program without arguments."""
    return Path(shlex.split(command)[0]).name


def kernel_word(path: Path) -> str:
    """The text of a small kernel file in lower case; empty where it cannot be read."""
    return (read_text(path) or "").lower()
