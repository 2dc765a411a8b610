"""Messages between the conversion and its export, quantization and check processes, as files of the work folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from convert.options import CalibrationMethod, InputRange, Loader, ModelColor, ModelOutput, Repair, Rounding
from convert.record import CalibrationPoint, Step
from edge_runtime.contract import Head, InputSpec, OutputSpec, TensorSpec, Variant
from edge_runtime.strict import from_mapping, to_mapping

REPRESENTATIVE_FILE = "representative.npy"
CHECK_FILE = "check.npy"
GOLDEN_INPUT_FILE = "golden.npy"
TRUTH_FILE = "truth.npy"
BASE_TFLITE = "base.tflite"
BASE_ONNX = "base.onnx"
EXPORTED_FILE = "exported.json"
QUANTIZED_FILE = "quantized.json"

EXPORT_MODULE = "convert.export.child"
QUANTIZE_MODULE = "convert.quantize.child"
CHECK_MODULE = "convert.check_child"

T = TypeVar("T")


@dataclass(frozen=True)
class ExportJob:
    """Work for ``convert.export.child``.

    Attributes:
        model: Absolute path of the model file or SavedModel folder.
        shown: Path of the model as the user gave it, for messages.
        loader: Library that loads the model.
        input: Geometry of the exports' input.
        label_count: Number of labels, at least 2.
        head: Output of the exports; a sigmoid head has one output for two labels.
        input_range: Pixel range that the model expects.
        color: Channel order that the model expects.
        output: Kind of values that the model's last layer gives.
        unsafe: True to run code inside the file.
        onnx: True to write ``base.onnx`` too.
        work_dir: Folder with ``check.npy`` and ``golden.npy``, uint8 [n, height, width, 3] RGB; results go there.
    """

    model: str
    shown: str
    loader: Loader
    input: InputSpec
    label_count: int
    head: Head
    input_range: InputRange
    color: ModelColor
    output: ModelOutput
    unsafe: bool
    onnx: bool
    work_dir: str

    @property
    def output_width(self) -> int:
        """Number of output values that the labels require."""
        return 1 if self.head is Head.SIGMOID else self.label_count


@dataclass(frozen=True)
class Exported:
    """Tools and versions of an export.

    Attributes:
        keras: Library that loaded the model, such as ``tf-keras 2.21.0`` or ``saved model of tensorflow 2.21.0``.
        converter: Converter that wrote ``base.tflite``, such as ``tensorflow 2.21.0``.
        onnx_converter: Converter that wrote ``base.onnx``, such as ``tf2onnx 1.17.0``; None if it was not requested.
        opset: ONNX opset of ``base.onnx``, or None.
        onnx_failure: Reason why a requested ``base.onnx`` is missing; empty otherwise.
    """

    keras: str
    converter: str
    onnx_converter: str | None
    opset: int | None
    onnx_failure: str = ""


@dataclass(frozen=True)
class QuantizeSettings:
    """Settings of calibration, rounding and repair.

    Attributes:
        method: Method that derives activation ranges from the calibration images.
        rounding: Method that rounds weights to integers.
        repair: Treatment of an int8 model that fails the accuracy gate.
        repair_seconds: Time limit for the repair of one artifact, in seconds.
        float_first: Number of operators at the start of int8 models that stay in float32.
        old_runtime: True to avoid a scale per output of a dense layer in dynamic range.
        points: True to measure int8 with fewer calibration images too.
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
        work_dir: Folder with ``base.tflite``, ``base.onnx``, images and Keras' answers; artifacts go there.
        model_name: Stem of the artifacts' file names.
        variants: Variants to build, in order.
        output: Meaning of the output values.
        max_drop_points: Allowed loss of accuracy, percentage points.
        seed: Seed for choosing the places that calibrated rounding samples.
        settings: Settings of calibration, rounding and repair.
    """

    work_dir: str
    model_name: str
    variants: tuple[Variant, ...]
    output: OutputSpec
    max_drop_points: float
    seed: int
    settings: QuantizeSettings


@dataclass(frozen=True)
class BuiltVariant:
    """Result of building one artifact.

    Attributes:
        variant: Variant of the artifact.
        steps: Attempts in order; empty for a variant with a single way.
        notes: Sentences for the report.
        float_operators: Number of operators of an integer artifact that compute in float32.
        failure: Reason why it could not be built; empty otherwise.
    """

    variant: Variant
    steps: tuple[Step, ...]
    notes: tuple[str, ...]
    float_operators: int = 0
    failure: str = ""


@dataclass(frozen=True)
class Quantized:
    """Results of ``convert.quantize.child``, and int8 by number of calibration images."""

    made: tuple[BuiltVariant, ...]
    points: tuple[CalibrationPoint, ...]


@dataclass(frozen=True)
class CheckJob:
    """Work for ``convert.check_child``.

    Attributes:
        files: Paths of the artifacts.
        work_dir: Folder with the ``.npy`` inputs; outputs and observations go there.
        workers: Number of interpreters, each with one thread; 0 means one per core.
        is_timed: True to measure latency after the outputs.
    """

    files: tuple[str, ...]
    work_dir: str
    workers: int = 0
    is_timed: bool = True


@dataclass(frozen=True)
class Observation:
    """Properties of an artifact that ran; its outputs lie beside it as ``.npy``.

    Attributes:
        engine: Runtime and version, such as ``litert 2.3.0``.
        input: Specification of the input tensor.
        output: Specification of the output tensor.
        latency_ms: Median of single invocations on one thread, in milliseconds; 0 if not timed.
    """

    engine: str
    input: TensorSpec
    output: TensorSpec
    latency_ms: float


@dataclass(frozen=True)
class CheckFailure:
    """Reason why an artifact could not be run, in one sentence."""

    message: str


def read_outcome(work_dir: Path, file_name: str) -> Observation | CheckFailure | None:
    """Read the outcome of one artifact; None if its process died before it wrote one."""
    observation, failure = observation_file(work_dir, file_name), failure_file(work_dir, file_name)
    if observation.exists():
        return read_message(observation, Observation)
    return read_message(failure, CheckFailure) if failure.exists() else None


def observation_file(work_dir: Path, file_name: str) -> Path:
    """Path of an artifact's `Observation`."""
    return work_dir / f"{file_name}.json"


def failure_file(work_dir: Path, file_name: str) -> Path:
    """Path of an artifact's `CheckFailure`."""
    return work_dir / f"{file_name}.error.json"


def read_message(path: Path, cls: type[T]) -> T:
    """Read a dataclass that `write_message` wrote.

    Raises:
        ManifestError: A field is unknown, missing or of the wrong type.
    """
    return from_mapping(cls, json.loads(path.read_text(encoding="utf-8")), path.name)


def write_message(path: Path, value: Any) -> None:
    """Write a dataclass as JSON to a temporary name and rename it, so that a crash leaves a whole file or none."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(json.dumps(to_mapping(value)), encoding="utf-8")
    partial.replace(path)
