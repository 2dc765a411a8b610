"""The choices of quantizing, named as on the command line."""

from __future__ import annotations

import enum


class CalibrationMethod(str, enum.Enum):
    """How the range of an activation follows from the values that it took over the calibration pictures."""

    MIN_MAX = "min-max"  # the smallest and the largest value of all pictures
    MOVING_AVERAGE = "moving-average"  # an exponential average of each picture's smallest and largest value
    PERCENTILE = "percentile"  # the rarest values of both ends are cut off
    MSE = "mse"  # the range whose rounding and cutting costs least mean squared error


class Rounding(str, enum.Enum):
    """How a weight becomes an integer."""

    NEAREST = "nearest"  # each weight by itself
    CALIBRATED = "calibrated"  # so that a layer's output over the calibration pictures stays closest; bias corrected


class Repair(str, enum.Enum):
    """What happens to an integer artifact that fails the gate."""

    OFF = "off"
    AUTO = "auto"  # the fewest layers that hurt go back to float32 until it passes
