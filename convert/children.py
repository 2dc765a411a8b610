"""Child processes of a conversion: their jobs and results as files of the work folder, start, exit states, full disks.

The child calls `refuse`; its parent calls `read_refusal` when the child ended with `REFUSED_CODE`. The export child
imports TensorFlow; the quantizing and the checking child must not.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from convert.options import InputRange, Loader, ModelColor, ModelOutput, QuantizeSettings
from convert.record import CalibrationPoint, Step
from edge_runtime.contract import Head, InputSpec, OutputSpec, TensorSpec, Variant
from edge_runtime.errors import EdgeKitError, EngineError, ModelError, OutputError
from edge_runtime.model.bundle import SANDBOX_VARIABLE
from edge_runtime.platform.childproc import isolated_command, signal_name
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
CONFINED_MODULE = "convert.confinement"

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
    observation, failure = outcome_files(work_dir, file_name)
    if observation.exists():
        return read_message(observation, Observation)
    return read_message(failure, CheckFailure) if failure.exists() else None


def outcome_files(work_dir: Path, file_name: str) -> tuple[Path, Path]:
    """Paths of an artifact's `Observation` and `CheckFailure`."""
    return work_dir / f"{file_name}.json", work_dir / f"{file_name}.error.json"


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


REFUSED_CODE = 65
"""Exit code of a child that left a message (EX_DATAERR of sysexits.h)."""

_REFUSAL_FILE = "error.json"
_MAX_CHARACTERS = 2000
_LOG_LINES = 15
# A quota and a limit on the size of files count as full disks.
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Smaller than any file that a child writes, larger than what an almost full disk has left after a failed write.
_FULL_BYTES = 64 << 10
# TensorFlow and what it reserves for each of its threads.
_MEMORY_BYTES, _MEMORY_PER_CORE, _MEMORY_PER_MODEL_BYTE = 16 << 30, 512 << 20, 24
_TMPDIR_REMEDY = "set TMPDIR to a folder on a larger disk"


def refuse(work_dir: Path, error: EdgeKitError) -> NoReturn:
    """Write the error's message into the work folder and exit with `REFUSED_CODE`."""
    refusal = {"message": str(error)[:_MAX_CHARACTERS], "output": isinstance(error, OutputError)}
    # On a full disk even this cannot be written; the parent then reports the disk.
    with contextlib.suppress(OSError):
        (work_dir / _REFUSAL_FILE).write_text(json.dumps(refusal), encoding="utf-8")
    sys.exit(REFUSED_CODE)


def read_refusal(work_dir: Path) -> EdgeKitError:
    """Read the message that a child left, as the ModelError or OutputError to raise."""
    try:
        refusal = json.loads((work_dir / _REFUSAL_FILE).read_text(encoding="utf-8"))
        return (OutputError if refusal["output"] else ModelError)(str(refusal["message"]))
    except (OSError, ValueError, KeyError):
        return OutputError(
            f"{work_dir}: a child process could not write there; make room or set TMPDIR to a larger disk"
        )


def export_memory(model: Path) -> int:
    """Limit on the address space of the export child, in bytes: many times what the largest models of Keras take."""
    files = [file for file in model.rglob("*") if file.is_file()] if model.is_dir() else [model]
    size = sum(file.stat().st_size for file in files)
    return _MEMORY_BYTES + _MEMORY_PER_CORE * (os.cpu_count() or 1) + _MEMORY_PER_MODEL_BYTE * size


def run_child(
    module: str, job: Any, work_dir: Path, on_line: Callable[[str], None] | None = None, memory_bytes: int = 0
) -> None:
    """Run ``main()`` of a module in an isolated and confined Python on a job file and wait for it.

    Args:
        module: Dotted name of the child's module.
        job: Dataclass with the child's work, written as JSON into the work folder.
        work_dir: Work folder, current folder of the child.
        on_line: Called with each line of the child's standard output.
        memory_bytes: Limit on the child's memory; 0 means none.

    Raises:
        EdgeKitError: The child refused the job; the message is the child's.
        OutputError: The disk is full.
        EngineError: The child was killed, or failed; the message then ends with the last lines of its log.
    """
    job_file, log_file = work_dir / f"{module}.json", work_dir / f"{module}.log"
    write_message(job_file, job)
    # This child is isolated already: files that may crash a runtime need not be tried in another process first.
    # It can write into its work folder only.
    environment = {**os.environ, SANDBOX_VARIABLE: "off", "TMPDIR": str(work_dir)}
    command = isolated_command(CONFINED_MODULE, module, str(memory_bytes), str(job_file))
    with log_file.open("wb") as log:
        child = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, text=True, cwd=work_dir, env=environment
        )  # fmt: skip
        try:
            for line in child.stdout or ():
                if on_line:
                    on_line(line.rstrip("\n"))
            code = child.wait()
        finally:
            # Ctrl-C in the parent must not leave a converter running.
            child.kill()
            child.wait()
    _check_exit(module, code, work_dir, log_file)


def _check_exit(module: str, code: int, work_dir: Path, log_file: Path) -> None:
    """Raise the error that a child's exit code stands for; see `run_child`."""
    if code == REFUSED_CODE:
        refusal = read_refusal(work_dir)
        if isinstance(refusal, OutputError) and _is_out_of_space(work_dir, str(refusal)):
            raise _no_space(work_dir.parent, _TMPDIR_REMEDY)
        raise refusal
    log_tail = "\n".join(log_file.read_text(errors="replace").splitlines()[-_LOG_LINES:])
    # Writing to a mapped file on a full disk ends in SIGBUS.
    if (code > 0 or code == -signal.SIGBUS) and _is_out_of_space(work_dir, log_tail):
        raise _no_space(work_dir.parent, _TMPDIR_REMEDY)
    if code < 0:
        raise EngineError(
            f"{module} was killed ({signal_name(-code)}) before it finished, perhaps because memory ran out; "
            "nothing was written, so it can be run again"
        )
    if code != 0:
        error = EngineError(f"{module} ended with code {code}; its last lines were:\n{log_tail}")
        error.keeps_lines = True
        raise error


@contextlib.contextmanager
def space_in(place: Path, remedy: str = _TMPDIR_REMEDY) -> Iterator[None]:
    """Turn a write that fails for lack of space into an OutputError.

    Args:
        place: File or folder being written, for the message.
        remedy: Alternative to making room, for the message.

    Raises:
        OutputError: The disk of ``place`` is full, or a quota is used up.
    """
    try:
        yield
    except OSError as error:
        # numpy gives its own error no number: "135168 requested and 40832 written".
        is_short_write = error.errno is None and str(error).endswith("written")
        if error.errno not in _NO_SPACE and not is_short_write:
            raise
        raise _no_space(place, remedy) from error


def _no_space(place: Path, remedy: str) -> OutputError:
    return OutputError(f"{place}: no space left there, so nothing was written; make room, or {remedy}")


def _is_out_of_space(work_dir: Path, log: str) -> bool:
    """Judge by the child's log or, since a full disk has no room for a log either, by the free space of the disk."""
    return any(os.strerror(code) in log for code in _NO_SPACE) or shutil.disk_usage(work_dir).free < _FULL_BYTES
