"""Messages between the conversion and its export, quantization and check processes, as JSON files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from convert.options import CalibrationMethod, InputRange, Loader, ModelColor, ModelOutput, Repair, Rounding
from convert.record import CalibrationPoint, Step
from convert.source.model_source import ModelSource
from edge_runtime.contract import Head, InputSpec, OutputSpec, TensorSpec, Variant
from edge_runtime.strict import from_mapping, to_mapping

EXPORT_MODULE = "convert.export.child"
EXPORTED_FILE = "exported.json"


@dataclass(frozen=True)
class ExportJob:
    """Work for ``convert.export.child``.

    Attributes:
        model: The model file, or the SavedModel folder, as an absolute path.
        shown: What messages call it.
        loader: What loads it.
        input: Geometry of the exports' input.
        label_count: Number of labels.
        head: What the exports give; a sigmoid head has one output for two labels.
        input_range: What the model's own input takes.
        color: What the model's own input takes.
        output: What the model's own output gives.
        unsafe: Whether code inside the file may run.
        onnx: Whether ``base.onnx`` is wanted.
        work_dir: Holds ``check.npy`` and ``golden.npy``, uint8 [n, height, width, 3] RGB; the rest is written here.
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
        """Number of output values that the labels ask for."""
        return 1 if self.head is Head.SIGMOID else self.label_count


@dataclass(frozen=True)
class Exported:
    """What the child used.

    Attributes:
        keras: What loaded the model, such as ``tf-keras 2.21.0`` or ``saved model of tensorflow 2.21.0``.
        converter: What wrote ``base.tflite``, such as ``tensorflow 2.21.0``.
        onnx_converter: What wrote ``base.onnx``, such as ``tf2onnx 1.17.0``, or None where it was not wanted.
        opset: The opset of ``base.onnx``, or None.
        onnx_failure: Why there is no ``base.onnx``, if it was wanted; else empty.
    """

    keras: str
    converter: str
    onnx_converter: str | None
    opset: int | None
    onnx_failure: str = ""


def make_job(source: ModelSource, work_dir: Path, *, onnx: bool) -> ExportJob:
    """The job of exporting a model."""
    manifest = source.manifest
    return ExportJob(
        model=str(source.path.resolve()),
        shown=str(source.path),
        loader=source.loader,
        input=manifest.input,
        label_count=len(manifest.labels),
        head=manifest.output.head,
        input_range=source.input_range,
        color=source.color,
        output=source.output,
        unsafe=source.unsafe,
        onnx=onnx,
        work_dir=str(work_dir),
    )


QUANTIZED_FILE = "quantized.json"


@dataclass(frozen=True)
class QuantizeSettings:
    """How integers are made.

    Attributes:
        method: How activation ranges follow from the calibration images.
        rounding: How weights become integers.
        repair: What happens to an int8 model that fails the gate.
        repair_seconds: Time for it, an artifact.
        float_first: This many operators at the head of int8 models stay in float32.
        old_runtime: Do without a scale per output of a dense layer in dynamic range.
        points: Whether int8 is also made and measured with fewer calibration images.
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
        work_dir: Holds ``base.tflite``, ``base.onnx``, images and Keras' answers; artifacts are written here.
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
    settings: QuantizeSettings


@dataclass(frozen=True)
class BuiltVariant:
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
    """All that ``convert.quantize.child`` made, and int8 by number of calibration images."""

    made: tuple[BuiltVariant, ...]
    points: tuple[CalibrationPoint, ...]


T = TypeVar("T")


@dataclass(frozen=True)
class CheckJob:
    """Work for ``convert.check_child``.

    Attributes:
        files: The artifacts, as paths.
        work_dir: Holds the ``.npy`` inputs; outputs and observations are written here.
        workers: Images that are run at the same time, each by an interpreter of one thread; 0 means one a core.
        is_timed: Whether latency is measured after the outputs.
    """

    files: tuple[str, ...]
    work_dir: str
    workers: int = 0
    is_timed: bool = True


@dataclass(frozen=True)
class Observation:
    """What the child saw of one artifact; its outputs lie beside it as ``.npy``.

    Attributes:
        engine: Runtime and version, such as ``litert 2.3.0``.
        input: The input tensor.
        output: The output tensor.
        latency_ms: Median of single invocations on one thread, in milliseconds; 0 where it was not timed.
    """

    engine: str
    input: TensorSpec
    output: TensorSpec
    latency_ms: float


@dataclass(frozen=True)
class CheckFailure:
    """Why an artifact could not be run, in one sentence."""

    message: str


def read_outcome(work_dir: Path, file_name: str) -> Observation | CheckFailure | None:
    """What the child said of an artifact; None where its process died before it could say anything."""
    observation, failure = observation_file(work_dir, file_name), failure_file(work_dir, file_name)
    if observation.exists():
        return read_message(observation, Observation)
    return read_message(failure, CheckFailure) if failure.exists() else None


def observation_file(work_dir: Path, file_name: str) -> Path:
    """Where the `Observation` of an artifact lies."""
    return work_dir / f"{file_name}.json"


def failure_file(work_dir: Path, file_name: str) -> Path:
    """Where the `CheckFailure` of an artifact lies."""
    return work_dir / f"{file_name}.error.json"


def read_message(path: Path, cls: type[T]) -> T:
    """Read what `write_message` wrote.

    Raises:
        ManifestError: A field is unknown, missing or of the wrong type.
    """
    return from_mapping(cls, json.loads(path.read_text(encoding="utf-8")), path.name)


def write_message(path: Path, value: CheckJob | Observation | CheckFailure) -> None:
    """Write under a temporary name and rename, so that a crash leaves a whole file or none."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(json.dumps(to_mapping(value)), encoding="utf-8")
    partial.replace(path)
