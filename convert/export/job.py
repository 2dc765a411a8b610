"""What the export child is told, and what it answers; files in one work folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from convert.source.facts import Loader
from convert.source.foreign import InputRange, ModelColor, ModelOutput
from convert.source.model_source import ModelSource
from edge_runtime.contract import Head, InputSpec

CHILD_MODULE = "convert.export.child"
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
