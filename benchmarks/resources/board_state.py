"""State of the board before, during and after a run, and the reasons that make latencies invalid."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from benchmarks.records import BoardState, BoardWatch
from benchmarks.resources.power import Meter, Repeater
from edge_runtime.platform.board import ROOT, governor, read_text, temperature_c, throttled
from edge_runtime.workstation.reporting.wording import joined

_PERIOD_S = 2.0
_CPU = "sys/devices/system/cpu"
_FIRMWARE_FILES = "sys/devices/platform/soc*/*firmware/get_throttled"
# Devices that slow a hot CPU down: cpufreq-cooling on Arm boards, ACPI processors.
_COOLING_KINDS = ("thermal-cpufreq", "cpufreq-", "processor")
_FIXED_GOVERNORS = ("performance", "userspace")
# Drivers whose frequency follows load, heat and turbo with any governor.
_FREE_DRIVERS = ("intel_", "amd", "acpi-cpufreq", "pcc-cpufreq")
_FALLEN = 0.9

NOW, SINCE_BOOT, WHILE_MEASURING = "now", "since boot", "while measuring"
"""Ends of the flags in `BoardState.throttling`; the last occurs only in the state after the measurements."""

_REMEDIES = {
    "under-voltage": "use the board's own power supply and a short cable",
    "frequency fell": "find what lowers the frequency",
}


def read_state(root: Path = ROOT) -> BoardState:
    """Read the state of the board in a few milliseconds; on a Raspberry Pi it may start ``vcgencmd``."""
    return BoardState(
        temperature_c=temperature_c(root),
        frequency_mhz=frequency_mhz(root),
        governor=governor(root),
        throttling=(*throttled(root), *_thermal_cap(root)),
        load_average_1min=round(os.getloadavg()[0], 2),
    )


def frequency_mhz(root: Path = ROOT) -> float | None:
    """Read the mean frequency of the usable cores in megahertz; None if the kernel does not tell.

    In a virtual machine it is the value that the host gave at the start.
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    values_khz = [read_text(root / _CPU / f"cpu{core}" / "cpufreq/scaling_cur_freq") for core in cores]
    found = [int(khz) / 1e3 for khz in values_khz if khz and khz.isdecimal()] or _cpuinfo_mhz(root, frozenset(cores))
    return round(sum(found) / len(found), 1) if found else None


class BoardWatcher:
    """Reads the state of the board before, every 2 s during, and after the block.

    During the block it reads a few kernel files in a thread, well under a millisecond each time, and starts no process.
    A power meter is not read, only recorded.

    Attributes:
        hottest_c: Highest temperature so far in °C, or None.
        seen: Names of the flags seen so far.
    """

    def __init__(self, root: Path = ROOT, meter: Meter | None = None, *, period_s: float = _PERIOD_S) -> None:
        self._root, self._meter = root, meter
        self._before: BoardState | None = None
        self._watch: BoardWatch | None = None
        self.hottest_c: float | None = None
        self.seen: set[str] = set()
        self._throttle_count = 0
        self._has_firmware_file = any(read_text(path) for path in root.glob(_FIRMWARE_FILES))
        self._repeater = Repeater(self._read_again, period_s, "board")

    @property
    def watch(self) -> BoardWatch:
        """Record of the block; RuntimeError before its end."""
        if self._watch is None:
            raise RuntimeError("the board is still being watched")
        return self._watch

    def __enter__(self) -> BoardWatcher:
        self._before = read_state(self._root)
        self.hottest_c = self._before.temperature_c
        self._throttle_count = _throttle_count(self._root)
        self._repeater.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._repeater.stop()
        after = read_state(self._root)
        self._note(after.temperature_c, after.frequency_mhz, after.governor, ())
        if _throttle_count(self._root) > self._throttle_count:
            self.seen.add("throttled")
        flags = (*after.throttling, *(f"{name} {WHILE_MEASURING}" for name in sorted(self.seen)))
        after = replace(after, throttling=flags)
        meter = f"{self._meter.name} ({self._meter.covers})" if self._meter else None
        idle_w = round(self._meter.idle_w, 3) if self._meter else None
        self._watch = BoardWatch(self._before or after, after, self.hottest_c, meter, idle_w)

    def _read_again(self) -> None:
        flags = (*(throttled(self._root) if self._has_firmware_file else ()), *_thermal_cap(self._root))
        self._note(temperature_c(self._root), frequency_mhz(self._root), governor(self._root), flags)

    def _note(
        self, celsius: float | None, megahertz: float | None, by_governor: str | None, flags: tuple[str, ...]
    ) -> None:
        self.hottest_c = max((value for value in (self.hottest_c, celsius) if value is not None), default=None)
        self.seen.update(_names(flags, NOW))
        start = self._before
        if not (start and start.frequency_mhz and megahertz):
            return
        is_fixed = start.governor == by_governor and by_governor in _FIXED_GOVERNORS and _follows_governor(self._root)
        if is_fixed and megahertz < _FALLEN * start.frequency_mhz:
            self.seen.add("frequency fell")


def invalid_reasons(watch: BoardWatch) -> tuple[str, ...]:
    """List the reasons why the latencies must not be quoted, one sentence for each thing that slowed the board down.

    A flag that was set since boot already at the start does not count: it may be days old, and one that is set again
    is seen while measuring. A lower frequency at the end does not count either: an idle board lowers it.
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
        f"The board reported {name!r} {joined([when for when, found in times.items() if name in found])}, so the "
        f"latencies are not those of a board at full speed: {_REMEDIES.get(name, 'cool the board')} and measure again."
        for name in names
    )


def _names(flags: Iterable[str], when: str) -> list[str]:
    return [flag.removesuffix(when).rstrip() for flag in flags if flag.endswith(f" {when}")]


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
    """Tell by a flag if the kernel throttles a hot CPU; source: its sysfs-class-thermal."""
    for device in root.glob("sys/class/thermal/cooling_device*"):
        kind = (read_text(device / "type") or "").lower()
        if kind.startswith(_COOLING_KINDS) and (read_text(device / "cur_state") or "0") != "0":
            return (f"thermal cap {NOW}",)
    return ()


def _throttle_count(root: Path) -> int:
    """Count how often an x86 CPU was too hot since boot, over cores and packages; 0 if unknown."""
    texts = [read_text(path) for path in root.glob(f"{_CPU}/cpu*/thermal_throttle/*_throttle_count")]
    return sum(int(text) for text in texts if text and text.isdecimal())


def _follows_governor(root: Path) -> bool:
    driver = read_text(root / _CPU / "cpu0/cpufreq/scaling_driver") or ""
    return bool(driver) and not driver.startswith(_FREE_DRIVERS)
