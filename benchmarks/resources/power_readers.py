"""The two ways of reading energy: a counter that the hardware keeps, and power that is sampled in a thread."""

from __future__ import annotations

import contextlib
import math
import shlex
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from benchmarks.resources.power import PowerReader
from edge_runtime.board import read_text

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
