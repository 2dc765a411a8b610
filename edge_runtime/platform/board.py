"""Describe the board: CPU model, temperature, throttling, free memory and disk.

Standard library only. Each function reads a few small files and returns None, or nothing, where the board does not
tell; none raises. Pass another ``root`` to read a copy of ``/proc`` and ``/sys``.
"""

from __future__ import annotations

import contextlib
import os
import platform
from pathlib import Path

ROOT = Path("/")
_CPU_KEYS = ("model name", "Model", "Hardware")  # x86, then Raspberry Pi and other Arm boards


def cpu_model(root: Path = ROOT) -> str:
    """Return the kernel's name of the board or processor, or the architecture; ``root`` contains ``proc``."""
    names: dict[str, str] = {}
    with contextlib.suppress(OSError):
        board = (root / "proc/device-tree/model").read_text(encoding="utf-8", errors="replace").strip("\0 \n")
        if board:
            return board
    with contextlib.suppress(OSError):
        for line in (root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            names.setdefault(key.strip(), value.strip())
    return next((names[key] for key in _CPU_KEYS if names.get(key)), platform.machine())


_PROCESSOR_ZONES = ("cpu", "soc", "x86_pkg", "k10temp", "coretemp")
_PLAUSIBLE_C = (-40.0, 150.0)  # a broken sensor gives 0 K, or 255
# https://www.raspberrypi.com/documentation/computers/os.html#get_throttled: bits 0..3 now, bits 16..19 since boot.
_THROTTLE_BITS = ("under-voltage", "frequency capped", "throttled", "soft temperature limit")
_SINCE_BOOT_SHIFT = 16


def temperature_c(root: Path = ROOT) -> float | None:
    """Return the processor temperature in degrees Celsius: its hottest sensor, else the hottest of all.

    Takes under a millisecond.
    """
    processor: list[float] = []
    others: list[float] = []
    for zone in root.glob("sys/class/thermal/thermal_zone*"):
        value = _celsius(read_text(zone / "temp"))
        if value is None:
            continue
        kind = (read_text(zone / "type") or "").lower()
        (processor if kind.startswith(_PROCESSOR_ZONES) else others).append(value)
    return max(processor or others, default=None)


def throttled(root: Path = ROOT) -> tuple[str, ...]:
    """Return the reasons for throttling of a Raspberry Pi, such as ``under-voltage now``; empty if unknown.

    Each of under-voltage, frequency capped, throttled and soft temperature limit is followed by ``now`` or
    ``since boot``. Read from the kernel, else from ``vcgencmd`` (a process; a few milliseconds).
    """
    word = _throttle_word(root)
    if word is None:
        return ()
    now = [name for bit, name in enumerate(_THROTTLE_BITS) if word >> bit & 1]
    before = [name for bit, name in enumerate(_THROTTLE_BITS) if word >> bit + _SINCE_BOOT_SHIFT & 1]
    return (*(f"{name} now" for name in now), *(f"{name} since boot" for name in before if name not in now))


def memory_available_bytes(root: Path = ROOT) -> int | None:
    """Return the memory available without swapping, in bytes."""
    return memory_info(root).get("MemAvailable")


def memory_info(root: Path = ROOT) -> dict[str, int]:
    """Return the values of ``/proc/meminfo`` by name, in bytes; empty if there are none."""
    found = {}
    for line in (read_text(root / "proc/meminfo") or "").splitlines():
        name, _, value = line.partition(":")
        number, _, unit = value.strip().partition(" ")
        if number.isdecimal():
            found[name] = int(number) * (1024 if unit == "kB" else 1)
    return found


def disk_free_bytes(path: Path) -> int | None:
    """Return the bytes that this user can write on the disk of ``path``, which need not exist yet."""
    for place in (path, *path.absolute().parents):
        try:
            stat = os.statvfs(place)
        except FileNotFoundError:
            continue
        except OSError:
            return None
        return stat.f_bavail * stat.f_frsize
    return None


def governor(root: Path = ROOT) -> str | None:
    """Return the frequency governor of the first core, such as ``ondemand``, or None."""
    return read_text(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


def read_text(path: Path, limit: int = 1 << 16) -> str | None:
    """Read up to ``limit`` bytes of a small kernel file, stripped of blanks and zeros; None if unreadable."""
    try:
        with path.open("rb") as file:
            return file.read(limit).decode(errors="replace").strip("\0\n ")
    except (OSError, ValueError):
        return None


def vcgencmd(root: Path = ROOT) -> Path | None:
    """Find the Raspberry Pi's ``vcgencmd``, which queries the firmware; None if it is missing."""
    return next((path for path in (root / "usr/bin/vcgencmd", root / "opt/vc/bin/vcgencmd") if path.exists()), None)


def ask_vcgencmd(question: str, root: Path = ROOT, timeout_s: float = 2.0) -> str | None:
    """Run ``vcgencmd`` and return its output, stripped; None if it is missing, fails or takes too long."""
    program = vcgencmd(root)
    if program is None:
        return None
    import subprocess  # lazily: a camera run needs it nowhere else

    try:
        done = subprocess.run(
            [program, question], capture_output=True, stdin=subprocess.DEVNULL, timeout=timeout_s, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace").strip() if done.returncode == 0 else None


def _celsius(text: str | None) -> float | None:
    try:
        value = int(text or "") / 1000
    except ValueError:
        return None
    low, high = _PLAUSIBLE_C
    return value if low < value < high else None


def _throttle_word(root: Path) -> int | None:
    # Pi 3 and 4 call it soc/soc:firmware, Pi 5 puts an address into the name.
    texts = [read_text(path) for path in root.glob("sys/devices/platform/soc*/*firmware/get_throttled")]
    if not any(texts):
        texts = [ask_vcgencmd("get_throttled", root)]
    for text in texts:
        try:
            return int((text or "").rpartition("=")[2], 16)
        except ValueError:
            continue
    return None
