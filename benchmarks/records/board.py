"""The board around the measurements, as a report holds it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BoardState:
    """What the board said at one moment.

    Attributes:
        temperature_c: Of the processor; None where it does not say.
        frequency_mhz: Mean frequency of the usable cores; None where it does not say.
        governor: Frequency governor, or None.
        throttling: Such as ``under-voltage now``; see `edge_runtime.board.throttled`.
        load_average_1min: Load of the minute before.
    """

    temperature_c: float | None
    frequency_mhz: float | None
    governor: str | None
    throttling: tuple[str, ...]
    load_average_1min: float


@dataclass(frozen=True)
class BoardWatch:
    """The board around the measurements.

    Attributes:
        before: Just before the first.
        after: Just after the last.
        hottest_c: Highest temperature in between; None where it does not say.
        power_meter: Name of the meter that was read, or None.
        idle_w: Power before the first measurement, or None without a meter.
    """

    before: BoardState
    after: BoardState
    hottest_c: float | None
    power_meter: str | None
    idle_w: float | None
