"""Find and open a power meter: RAPL, hwmon, the Raspberry Pi's PMIC, a battery, or a program."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from benchmarks.resources.power import (
    Counter,
    CounterReader,
    Meter,
    PowerReader,
    PrintedPower,
    SampledReader,
    describe_program,
    kernel_word,
    read_number,
)
from edge_runtime.errors import UsageError
from edge_runtime.platform.board import ask_vcgencmd, read_text, vcgencmd

_INA_CHIPS = ("ina2", "ina3")
_WHOLE_BOARD = ("vdd_in", "5v_in", "vin", "sys_5v0")  # what Jetsons and carrier boards call their input
# A process each time, so that twenty a second would themselves be a load.
_VCGENCMD_PERIOD_S = 0.25
# "VDD_CORE_A current(7)=1.03125000A" and "VDD_CORE_V volt(15)=0.72131580V"
_PMIC_LINE = re.compile(r"(\w+)_([AV])\b[^=\n]*=\s*(\d{1,6}(?:\.\d{1,12})?)", re.ASCII)

Found: TypeAlias = "PowerReader | str"
"""A reader, or the reason why there is none."""


def find_rapl(root: Path) -> Found:
    """The counters that x86 processors keep: packages, and memory where it is counted beside them.

    Source: the kernel's Documentation/power/powercap/powercap.rst. The zones ``core`` and ``uncore`` are parts of the
    package, and ``psys`` contains it, so they are left out.
    """
    zones = sorted(root.glob("sys/class/powercap/intel-rapl:*"))
    chosen = [zone for zone in zones if kernel_word(zone / "name").startswith(("package", "dram"))]
    if not chosen:
        return "this processor or its virtual machine shows no energy counter"
    counters = [Counter(zone / "energy_uj", _range_uj(zone)) for zone in chosen]
    try:
        for counter in counters:
            read_number(counter.path)
    except PermissionError as error:
        return f"{error.filename} can be read by root only; sudo chmod a+r it, or measure as root"
    except OSError as error:
        return f"its counter cannot be read ({error})"
    memory = " and memory" if any(kernel_word(zone / "name").startswith("dram") for zone in chosen) else ""
    return CounterReader("rapl", f"processor package{memory}, with everything that runs on it, not the board", counters)


def find_hwmon(root: Path, wanted: str | None = None) -> Found:
    """A power monitor chip with a driver, such as INA219, INA226, INA3221 or INA238.

    Args:
        root: Where ``sys`` lies.
        wanted: One of its channels; None takes the only one, or the one that is labelled as the board's input.
    """
    channels: dict[str, Callable[[], float]] = {}
    for chip in sorted(root.glob("sys/class/hwmon/hwmon*")):
        if kernel_word(chip / "name").startswith(_INA_CHIPS):
            for label, read_w in _channels(chip).items():
                channels[f"{label}@{chip.name}" if label in channels else label] = read_w
    if not channels:
        return "no INA2xx or INA3221 chip has a driver"
    whole = [name for name in channels if name.lower() in _WHOLE_BOARD]
    name = wanted or (next(iter(channels)) if len(channels) == 1 else next(iter(whole), None))
    if name not in channels:
        listed = ", ".join(channels)
        return f"expected one of the channels {listed}, as in --power hwmon:{next(iter(channels))}"
    return SampledReader(f"hwmon:{name}", f"what flows through the chip's channel {name}", channels[name])


def find_pmic(root: Path) -> Found:
    """The rails of a Raspberry Pi 5's power chip, as ``vcgencmd pmic_read_adc`` tells them."""
    if vcgencmd(root) is None:
        return "no vcgencmd, so no Raspberry Pi 5"
    try:
        _pmic_w(root)
    except OSError as error:
        return str(error)
    covers = "the rails of the Pi 5's power chip, without what hangs on its 5 V (USB, fan, HAT) and conversion losses"
    return SampledReader("pmic", covers, lambda: _pmic_w(root), _VCGENCMD_PERIOD_S)


def find_battery(root: Path) -> Found:
    """What flows out of the batteries, while the machine runs on them."""
    batteries = [
        supply
        for supply in sorted(root.glob("sys/class/power_supply/*"))
        # "Device" is the battery of a mouse.
        if kernel_word(supply / "type") == "battery" and kernel_word(supply / "scope") != "device"
    ]
    discharging = [supply for supply in batteries if kernel_word(supply / "status") == "discharging"]
    if not discharging:
        return "the battery is not discharging: pull the plug" if batteries else "no battery"
    try:
        sum(map(_battery_w, discharging))
    except OSError as error:
        return f"does not tell its power ({error})"
    covers = "the whole machine with its screen; batteries tell their power every few seconds only"
    return SampledReader("battery", covers, lambda: sum(map(_battery_w, discharging)))


def pmic_w(text: str) -> float:
    """Watts of the answer of ``vcgencmd pmic_read_adc``: volts times amperes of every rail that tells both.

    ``EXT5V`` and ``BATT`` tell no current.

    Raises:
        OSError: No rail tells both.
    """
    values = {(rail, unit): float(number) for rail, unit, number in _PMIC_LINE.findall(text)}
    rails = [rail for rail, unit in values if unit == "A" and (rail, "V") in values]
    if not rails:
        raise OSError("vcgencmd pmic_read_adc tells no rails; only a Raspberry Pi 5 has such a power chip")
    return sum(values[rail, "A"] * values[rail, "V"] for rail in rails)


def _range_uj(zone: Path) -> int | None:
    text = read_text(zone / "max_energy_range_uj") or ""
    return int(text) if text.isdecimal() else None


def _channels(chip: Path) -> dict[str, Callable[[], float]]:
    """What a chip tells, by label: watts straight, or volts (mV) and amperes (mA) of the same number."""
    chip_name = read_text(chip / "name") or chip.name
    found: dict[str, Callable[[], float]] = {}
    for path in sorted(chip.glob("power*_input")):
        number = path.name.removeprefix("power").removesuffix("_input")
        found[read_text(chip / f"power{number}_label") or f"{chip_name}-{number}"] = _watts_of(path)
    if found:
        return found
    for path in sorted(chip.glob("curr*_input")):
        number = path.name.removeprefix("curr").removesuffix("_input")
        volts = chip / f"in{number}_input"
        label = read_text(chip / f"in{number}_label") or ""
        # The fourth current of an INA3221 is a sum whose number belongs to another voltage.
        if volts.exists() and number in "123" and read_text(chip / f"in{number}_enable") != "0":
            found[label or f"{chip_name}-{number}"] = _product_of(volts, path)
    return found


def _watts_of(path: Path) -> Callable[[], float]:
    return lambda: read_number(path) / 1e6


def _product_of(millivolts: Path, milliamperes: Path) -> Callable[[], float]:
    return lambda: read_number(millivolts) * read_number(milliamperes) / 1e6


def _battery_w(supply: Path) -> float:
    """Of ``power_now`` (microwatt), else ``voltage_now`` and ``current_now`` (micro), which may be below 0."""
    if (supply / "power_now").exists():
        return abs(read_number(supply / "power_now")) / 1e6
    return abs(read_number(supply / "voltage_now") * read_number(supply / "current_now")) / 1e12


def _pmic_w(root: Path) -> float:
    text = ask_vcgencmd("pmic_read_adc", root)
    if text is None:
        raise OSError("vcgencmd pmic_read_adc does not answer; only a Raspberry Pi 5 has such a power chip")
    return pmic_w(text)


NO_METER = "none"
COMMAND_PREFIX = "command:"
_HWMON_PREFIX = "hwmon:"
_FINDERS: dict[str, Callable[[Path], Found]] = {
    "hwmon": find_hwmon,  # a chip that somebody put there to be read
    "rapl": find_rapl,
    "pmic": find_pmic,
    "battery": find_battery,
}


def open_meter(name: str | None, root: Path = Path("/")) -> Meter | None:
    """Open a power meter; where there is one this takes 2 s, in which nothing else should run.

    Args:
        name: ``hwmon``, ``hwmon:CHANNEL``, ``rapl``, ``pmic``, ``battery`` or ``command:PROGRAM ARGUMENTS``; ``none``
            takes none; None takes whichever is found.
        root: Where ``sys`` and ``usr`` lie.

    Returns:
        The meter; None where none is wanted or none is found, and `explain_no_meter` says why.

    Raises:
        UsageError: No such reader, or it was asked for by name and cannot be read.
    """
    if name == NO_METER:
        return None
    if name is None:
        meters = (meter for finder in _FINDERS.values() if isinstance(meter := _meter(finder(root)), Meter))
        return next(meters, None)
    meter = _meter(_find_named(name, root))
    if isinstance(meter, str):
        raise UsageError(f"--power {name}: {meter}; --power {NO_METER} measures without energy")
    return meter


def explain_no_meter(name: str | None, root: Path = Path("/")) -> str:
    """One sentence on why `open_meter` gave None."""
    if name == NO_METER:
        return f"switched off with --power {NO_METER}"
    reasons = [f"{finder} ({found})" for finder, find in _FINDERS.items() if isinstance(found := find(root), str)]
    return f"no power meter can be read: {', '.join(reasons)}"


def _find_named(name: str, root: Path) -> Found:
    if name in _FINDERS:
        return _FINDERS[name](root)
    if name.startswith(_HWMON_PREFIX):
        return find_hwmon(root, name.removeprefix(_HWMON_PREFIX))
    if name.startswith(COMMAND_PREFIX):
        return _start_program(name.removeprefix(COMMAND_PREFIX))
    return f"expected {', '.join(_FINDERS)}, hwmon:CHANNEL, 'command:PROGRAM ARGUMENTS' or {NO_METER}"


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
        name = describe_program(command)
    except (OSError, ValueError, IndexError) as error:
        return f"expected a program that prints watts, one a line ({error})"
    if not printed.wait():
        printed.close()
        return "the program printed no number within 10 s; expected watts, one a line"
    return SampledReader(f"command:{name}", f"what {name} prints", printed.read_w, release=printed.close)
