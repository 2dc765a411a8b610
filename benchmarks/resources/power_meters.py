"""Find and open a power meter: RAPL, hwmon, the Raspberry Pi's PMIC, a battery, or a program."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeAlias

from benchmarks.resources.power import (
    Counter,
    CounterReader,
    Meter,
    PowerReader,
    PrintedPower,
    SampledReader,
    read_number,
)
from edge_runtime.errors import UsageError
from edge_runtime.platform.board import ask_vcgencmd, read_text, vcgencmd

NO_METER = "none"
COMMAND_PREFIX = "command:"
_HWMON_PREFIX = "hwmon:"
_INA_CHIPS = ("ina2", "ina3")
_WHOLE_BOARD = ("vdd_in", "5v_in", "vin", "sys_5v0")  # input channels of Jetsons and carrier boards
# Each sample starts a process, so a shorter period would be a load itself.
_VCGENCMD_PERIOD_S = 0.25
# "VDD_CORE_A current(7)=1.03125000A" and "VDD_CORE_V volt(15)=0.72131580V"
_PMIC_LINE = re.compile(r"(\w+)_([AV])\b[^=\n]*=\s*(\d{1,6}(?:\.\d{1,12})?)", re.ASCII)

Found: TypeAlias = "PowerReader | str"
"""A reader, or the reason why there is none."""


def find_rapl(root: Path) -> Found:
    """Find the energy counters of x86 CPUs: packages, and memory if it is counted separately.

    The zones ``core`` and ``uncore`` are parts of the package, and ``psys`` contains it, so they are left out.
    Source: the kernel's Documentation/power/powercap/powercap.rst.
    """
    zones = sorted(root.glob("sys/class/powercap/intel-rapl:*"))
    chosen = [zone for zone in zones if _kernel_word(zone / "name").startswith(("package", "dram"))]
    if not chosen:
        return "this CPU or its virtual machine has no energy counter"
    counters = [Counter(zone / "energy_uj", _range_uj(zone)) for zone in chosen]
    try:
        for counter in counters:
            read_number(counter.path)
    except PermissionError as error:
        return f"{error.filename} can be read by root only; sudo chmod a+r it, or measure as root"
    except OSError as error:
        return f"its counter cannot be read ({error})"
    memory = " and memory" if any(_kernel_word(zone / "name").startswith("dram") for zone in chosen) else ""
    return CounterReader("rapl", f"CPU package{memory}, with everything that runs on it, not the board", counters)


def find_hwmon(root: Path, wanted: str | None = None) -> Found:
    """Find a power monitor chip with a driver, such as INA219, INA226, INA3221 or INA238.

    Without a ``wanted`` channel, the only one is taken, or the one labelled as the board's input.
    """
    channels: dict[str, Callable[[], float]] = {}
    for chip in sorted(root.glob("sys/class/hwmon/hwmon*")):
        if _kernel_word(chip / "name").startswith(_INA_CHIPS):
            for label, read_w in _channels(chip).items():
                channels[f"{label}@{chip.name}" if label in channels else label] = read_w
    if not channels:
        return "no INA2xx or INA3221 chip has a driver"
    whole = [name for name in channels if name.lower() in _WHOLE_BOARD]
    name = wanted or (next(iter(channels)) if len(channels) == 1 else next(iter(whole), None))
    if name not in channels:
        listed = ", ".join(channels)
        return f"expected one of the channels {listed}, as in --power hwmon:{next(iter(channels))}"
    return SampledReader(f"hwmon:{name}", f"the power through the chip's channel {name}", channels[name])


def find_pmic(root: Path) -> Found:
    """Find the power chip of a Raspberry Pi 5, read by ``vcgencmd pmic_read_adc``."""
    if vcgencmd(root) is None:
        return "no vcgencmd, so no Raspberry Pi 5"
    try:
        _pmic_w(root)
    except OSError as error:
        return str(error)
    covers = "the rails of the Pi 5's power chip, without its 5 V loads (USB, fan, HAT) and conversion losses"
    return SampledReader("pmic", covers, lambda: _pmic_w(root), _VCGENCMD_PERIOD_S)


def find_battery(root: Path) -> Found:
    """Find the batteries, while the machine runs on them."""
    batteries = [
        supply
        for supply in sorted(root.glob("sys/class/power_supply/*"))
        # "Device" is the battery of a mouse.
        if _kernel_word(supply / "type") == "battery" and _kernel_word(supply / "scope") != "device"
    ]
    discharging = [supply for supply in batteries if _kernel_word(supply / "status") == "discharging"]
    if not discharging:
        return "the battery is not discharging: pull the plug" if batteries else "no battery"
    try:
        sum(map(_battery_w, discharging))
    except OSError as error:
        return f"does not report its power ({error})"
    covers = "the whole machine with its screen; batteries report their power every few seconds only"
    return SampledReader("battery", covers, lambda: sum(map(_battery_w, discharging)))


def pmic_w(text: str) -> float:
    """Sum the watts in the output of ``vcgencmd pmic_read_adc`` over the rails with voltage and current.

    ``EXT5V`` and ``BATT`` have no current. Raises OSError if no rail has both.
    """
    values = {(rail, unit): float(number) for rail, unit, number in _PMIC_LINE.findall(text)}
    rails = [rail for rail, unit in values if unit == "A" and (rail, "V") in values]
    if not rails:
        raise OSError("vcgencmd pmic_read_adc reports no rails; only a Raspberry Pi 5 has such a power chip")
    return sum(values[rail, "A"] * values[rail, "V"] for rail in rails)


def _range_uj(zone: Path) -> int | None:
    text = read_text(zone / "max_energy_range_uj") or ""
    return int(text) if text.isdecimal() else None


def _channels(chip: Path) -> dict[str, Callable[[], float]]:
    """List the channels of a chip by label: power files, or voltage (mV) and current (mA) files of one number."""
    chip_name = read_text(chip / "name") or chip.name
    found: dict[str, Callable[[], float]] = {}
    for path in sorted(chip.glob("power*_input")):
        number = path.name.removeprefix("power").removesuffix("_input")
        found[read_text(chip / f"power{number}_label") or f"{chip_name}-{number}"] = partial(_product, 1e-6, path)
    if found:
        return found
    for path in sorted(chip.glob("curr*_input")):
        number = path.name.removeprefix("curr").removesuffix("_input")
        volts = chip / f"in{number}_input"
        label = read_text(chip / f"in{number}_label") or ""
        # The fourth current of an INA3221 is a sum whose number belongs to another voltage.
        if volts.exists() and number in "123" and read_text(chip / f"in{number}_enable") != "0":
            found[label or f"{chip_name}-{number}"] = partial(_product, 1e-6, volts, path)
    return found


def _product(unit: float, *paths: Path) -> float:
    return math.prod(map(read_number, paths)) * unit


def _battery_w(supply: Path) -> float:
    """Read ``power_now`` (microwatt), else ``voltage_now`` and ``current_now`` (micro), which may be negative."""
    if (supply / "power_now").exists():
        return abs(_product(1e-6, supply / "power_now"))
    return abs(_product(1e-12, supply / "voltage_now", supply / "current_now"))


def _pmic_w(root: Path) -> float:
    text = ask_vcgencmd("pmic_read_adc", root)
    if text is None:
        raise OSError("vcgencmd pmic_read_adc does not answer; only a Raspberry Pi 5 has such a power chip")
    return pmic_w(text)


def _kernel_word(path: Path) -> str:
    """Read a small kernel file in lower case; empty if it cannot be read."""
    return (read_text(path) or "").lower()


_FINDERS: dict[str, Callable[[Path], Found]] = {
    "hwmon": find_hwmon,  # first: a chip that was added to be read
    "rapl": find_rapl,
    "pmic": find_pmic,
    "battery": find_battery,
}


def open_meter(name: str | None, root: Path = Path("/")) -> Meter | None:
    """Open a power meter, which takes 2 s in which nothing else should run.

    Args:
        name: Reader as in ``--power``; ``none`` for no meter, None for the first one found.
        root: Folder of ``sys`` and ``usr``.

    Returns:
        The meter; None if none is wanted or found, see `explain_no_meter`.

    Raises:
        UsageError: There is no such reader, or the named one cannot be read.
    """
    if name == NO_METER:
        return None
    if name is None:
        meters = (meter for finder in _FINDERS.values() if isinstance(meter := _meter(finder(root)), Meter))
        return next(meters, None)
    if name in _FINDERS:
        found = _FINDERS[name](root)
    elif name.startswith(_HWMON_PREFIX):
        found = find_hwmon(root, name.removeprefix(_HWMON_PREFIX))
    elif name.startswith(COMMAND_PREFIX):
        found = _start_program(name.removeprefix(COMMAND_PREFIX))
    else:
        found = f"expected {', '.join(_FINDERS)}, hwmon:CHANNEL, 'command:PROGRAM ARGUMENTS' or {NO_METER}"
    meter = _meter(found)
    if isinstance(meter, str):
        raise UsageError(f"--power {name}: {meter}; --power {NO_METER} measures without energy")
    return meter


def explain_no_meter(name: str | None, root: Path = Path("/")) -> str:
    """Explain in one sentence why `open_meter` returned None."""
    if name == NO_METER:
        return f"switched off with --power {NO_METER}"
    reasons = [f"{finder} ({found})" for finder, find in _FINDERS.items() if isinstance(found := find(root), str)]
    return f"no power meter can be read: {', '.join(reasons)}"


def _meter(found: Found) -> Meter | str:
    if isinstance(found, str):
        return found
    try:
        return Meter(found)
    except OSError as error:
        found.close()
        return f"cannot be read ({error})"


def _start_program(command: str) -> Found:
    try:
        printed = PrintedPower(command)
        name = Path(shlex.split(command)[0]).name  # without arguments
    except (OSError, ValueError, IndexError) as error:
        return f"expected a program that prints watts, one a line ({error})"
    if not printed.wait():
        printed.close()
        return "the program printed no number within 10 s; expected watts, one a line"
    return SampledReader(f"command:{name}", f"what {name} prints", printed.read_w, release=printed.close)
