"""Which power meter is read: the one that ``--power`` names, or whichever this machine has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from benchmarks.resources.power import Meter
from benchmarks.resources.power_finders import Found, find_battery, find_hwmon, find_pmic, find_rapl
from benchmarks.resources.power_readers import PrintedPower, SampledReader, describe_program
from edge_runtime.errors import UsageError

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
