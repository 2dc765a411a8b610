"""State of the board before, during and after a run, and the reasons that make latencies invalid."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from benchmarks.records import BoardState, BoardWatch
from benchmarks.resources.power import Meter
from edge_runtime.platform.board import ROOT, governor, read_text, temperature_c, throttled

_PERIOD_S = 2.0
_CPU = "sys/devices/system/cpu"
_FIRMWARE_FILES = "sys/devices/platform/soc*/*firmware/get_throttled"
# What slows processors down when they are hot: cpufreq-cooling on Arm boards, ACPI processors.
_COOLING_KINDS = ("thermal-cpufreq", "cpufreq-", "processor")
_FIXED_GOVERNORS = ("performance", "userspace")
# Their frequency follows load, heat and turbo, whatever the governor.
_FREE_DRIVERS = ("intel_", "amd", "acpi-cpufreq", "pcc-cpufreq")
_FALLEN = 0.9

NOW, SINCE_BOOT, WHILE_MEASURING = "now", "since boot", "while measuring"
"""What a flag of `BoardState.throttling` ends with; the last stands in the state after the measurements only."""

_SUPPLY_REMEDY = "use the board's own power supply and a short cable"
_HEAT_REMEDY = "cool the board"
_REMEDIES = {"under-voltage": _SUPPLY_REMEDY, "frequency fell": "see what lowers the frequency"}


def read_state(root: Path = ROOT) -> BoardState:
    """What the board says at this moment; takes a few milliseconds, on a Raspberry Pi it may start ``vcgencmd``.

    Args:
        root: Where ``proc`` and ``sys`` lie.
    """
    return BoardState(
        temperature_c=temperature_c(root),
        frequency_mhz=frequency_mhz(root),
        governor=governor(root),
        throttling=(*throttled(root), *_thermal_cap(root)),
        load_average_1min=round(os.getloadavg()[0], 2),
    )


def frequency_mhz(root: Path = ROOT) -> float | None:
    """Mean frequency of the usable cores in megahertz; None where the kernel does not say.

    In a virtual machine it is what the host told at the start.
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    told_khz = [read_text(root / _CPU / f"cpu{core}" / "cpufreq/scaling_cur_freq") for core in cores]
    found = [int(khz) / 1e3 for khz in told_khz if khz and khz.isdecimal()] or _cpuinfo_mhz(root, frozenset(cores))
    return round(sum(found) / len(found), 1) if found else None


class BoardWatcher:
    """Looks at the board before, every 2 s during, and after the block.

    During the block it reads a few kernel files in a thread, well under a millisecond each time, and starts no process.

    Args:
        root: Where ``proc`` and ``sys`` lie.
        meter: The power meter that is in use, for the record; it is not read.
        period_s: Seconds between two looks.
    """

    def __init__(self, root: Path = ROOT, meter: Meter | None = None, *, period_s: float = _PERIOD_S) -> None:
        self._root, self._meter, self._period_s = root, meter, period_s
        self._before: BoardState | None = None
        self._watch: BoardWatch | None = None
        self._hottest_c: float | None = None
        self._seen: set[str] = set()
        self._throttle_count = 0
        self._is_told_by_kernel = any(read_text(path) for path in root.glob(_FIRMWARE_FILES))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look_again, name="board", daemon=True)

    @property
    def watch(self) -> BoardWatch:
        """The record; there once the block has ended."""
        if self._watch is None:
            raise RuntimeError("the board is still being watched")
        return self._watch

    def __enter__(self) -> BoardWatcher:
        self._before = read_state(self._root)
        self._hottest_c = self._before.temperature_c
        self._throttle_count = _throttle_count(self._root)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        after = read_state(self._root)
        self._note(after.temperature_c, after.frequency_mhz, after.governor, ())
        if _throttle_count(self._root) > self._throttle_count:
            self._seen.add("throttled")
        flags = (*after.throttling, *(f"{name} {WHILE_MEASURING}" for name in sorted(self._seen)))
        after = BoardState(after.temperature_c, after.frequency_mhz, after.governor, flags, after.load_average_1min)
        meter = f"{self._meter.name} ({self._meter.covers})" if self._meter else None
        idle_w = round(self._meter.idle_w, 3) if self._meter else None
        self._watch = BoardWatch(self._before or after, after, self._hottest_c, meter, idle_w)

    def _look_again(self) -> None:
        while not self._stop.wait(self._period_s):
            flags = throttled(self._root) if self._is_told_by_kernel else ()
            self._note(
                temperature_c(self._root),
                frequency_mhz(self._root),
                governor(self._root),
                (*flags, *_thermal_cap(self._root)),
            )

    def _note(
        self, celsius: float | None, megahertz: float | None, by_governor: str | None, flags: tuple[str, ...]
    ) -> None:
        self._hottest_c = max((value for value in (self._hottest_c, celsius) if value is not None), default=None)
        self._seen.update(_names(flags, NOW))
        start = self._before
        if not (start and start.frequency_mhz and megahertz):
            return
        is_fixed = start.governor == by_governor and by_governor in _FIXED_GOVERNORS and _follows_governor(self._root)
        if is_fixed and megahertz < _FALLEN * start.frequency_mhz:
            self._seen.add("frequency fell")


def invalid_reasons(watch: BoardWatch) -> tuple[str, ...]:
    """Why nobody should quote what was measured: one sentence for each thing that slowed the board down.

    A flag that was up since boot already when measuring began is none: it may be days old, and one that comes up
    again is seen while measuring. A frequency that differs between the ends is none either: an idle board lowers it.
    Source of the flags: https://www.raspberrypi.com/documentation/computers/os.html#get_throttled
    """
    before, after = watch.before.throttling, watch.after.throttling
    times = {
        "before the first measurement": _names(before, NOW),
        "while measuring": [
            *_names(after, WHILE_MEASURING),
            *(name for name in _names(after, SINCE_BOOT) if not any(flag.startswith(name) for flag in before)),
        ],
        "after the last measurement": _names(after, NOW),
    }
    names = dict.fromkeys(name for found in times.values() for name in found)
    return tuple(
        f"The board reported {name!r} {_listed(when for when, found in times.items() if name in found)}, so the "
        f"latencies are not those of a board at full speed: {_REMEDIES.get(name, _HEAT_REMEDY)} and measure again."
        for name in names
    )


def _names(flags: Iterable[str], when: str) -> list[str]:
    return [flag.removesuffix(when).rstrip() for flag in flags if flag.endswith(f" {when}")]


def _listed(parts: Iterable[str]) -> str:
    *most, last = parts
    return f"{', '.join(most)} and {last}" if most else last


def _cpuinfo_mhz(root: Path, cores: frozenset[int]) -> list[float]:
    found, core = [], -1
    for line in (read_text(root / "proc/cpuinfo", limit=1 << 20) or "").splitlines():
        key, _, value = (part.strip() for part in line.partition(":"))
        with contextlib.suppress(ValueError):
            if key == "processor":
                core = int(value)
            elif key == "cpu MHz" and core in cores:
                found.append(float(value))
    return found


def _thermal_cap(root: Path) -> tuple[str, ...]:
    """Whether the kernel itself holds the processor back because it is hot; source: its sysfs-class-thermal."""
    for device in root.glob("sys/class/thermal/cooling_device*"):
        kind = (read_text(device / "type") or "").lower()
        if kind.startswith(_COOLING_KINDS) and (read_text(device / "cur_state") or "0") != "0":
            return (f"thermal cap {NOW}",)
    return ()


def _throttle_count(root: Path) -> int:
    """How often an x86 processor was too hot since boot, over cores and packages; 0 where it does not say."""
    texts = [read_text(path) for path in root.glob(f"{_CPU}/cpu*/thermal_throttle/*_throttle_count")]
    return sum(int(text) for text in texts if text and text.isdecimal())


def _follows_governor(root: Path) -> bool:
    driver = read_text(root / _CPU / "cpu0/cpufreq/scaling_driver") or ""
    return bool(driver) and not driver.startswith(_FREE_DRIVERS)
