"""What the conversion tells ``convert.quantize.child``, and what it says back."""

from __future__ import annotations

from dataclasses import dataclass

from convert.check.record import CalibrationPoint, Step
from convert.quantize.methods import CalibrationMethod, Repair, Rounding
from edge_runtime.contract import OutputSpec, Variant

QUANTIZED_FILE = "quantized.json"


@dataclass(frozen=True)
class Settings:
    """How integers are made.

    Attributes:
        method: How activation ranges follow from the calibration pictures.
        rounding: How weights become integers.
        repair: What happens to an int8 model that fails the gate.
        repair_seconds: Time for it, an artifact.
        float_first: This many operators at the head of int8 models stay in float32.
        old_runtime: Do without a scale per output of a dense layer in dynamic range.
        points: Whether int8 is also made and measured with fewer calibration pictures.
    """

    method: CalibrationMethod = CalibrationMethod.MIN_MAX
    rounding: Rounding = Rounding.CALIBRATED
    repair: Repair = Repair.AUTO
    repair_seconds: float = 60.0
    float_first: int = 0
    old_runtime: bool = False
    points: bool = True


@dataclass(frozen=True)
class QuantizeJob:
    """Work for ``convert.quantize.child``.

    Attributes:
        work_dir: Holds ``base.tflite``, ``base.onnx``, pictures and Keras' answers; artifacts are written here.
        model_name: Stem of the artifacts' file names.
        variants: Which to make.
        output: What the output means.
        max_drop_points: The gate.
        seed: Of the choice of places that calibrated rounding looks at.
        settings: How.
    """

    work_dir: str
    model_name: str
    variants: tuple[Variant, ...]
    output: OutputSpec
    max_drop_points: float
    seed: int
    settings: Settings


@dataclass(frozen=True)
class Made:
    """How one artifact came about.

    Attributes:
        variant: Which.
        steps: What was tried, in order; empty where there was one way only.
        notes: Sentences for the report.
        float_operators: How many operators of an integer artifact compute in float32.
        failure: Why it could not be made; else empty.
    """

    variant: Variant
    steps: tuple[Step, ...]
    notes: tuple[str, ...]
    float_operators: int = 0
    failure: str = ""


@dataclass(frozen=True)
class Quantized:
    """All that ``convert.quantize.child`` made, and int8 by number of calibration pictures."""

    made: tuple[Made, ...]
    points: tuple[CalibrationPoint, ...]
