"""What the conversion process tells its two child processes, and how it runs them.

The exporter child imports TensorFlow; the check child must not. They share files in one work folder, never objects.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from edge_runtime.contract import InputSpec, TensorSpec, Variant
from edge_runtime.errors import EngineError
from edge_runtime.strict import from_mapping, to_mapping

SUPPORTED_VARIANTS = (Variant.FLOAT32, Variant.INT8, Variant.ONNX_FLOAT32)
REPRESENTATIVE_FILE = "representative.npy"
CHECK_FILE = "check.npy"
GOLDEN_INPUT_FILE = "golden.npy"
_LOG_LINES = 15

T = TypeVar("T")


@dataclass(frozen=True)
class ExportJob:
    """Work for ``convert.export_child``.

    Attributes:
        model: The ``.keras`` file.
        input: Geometry of its input.
        variants: What to export.
        model_name: Stem of the artifacts' file names.
        work_dir: Holds the ``.npy`` inputs; the raw artifacts and Keras' probabilities are written here.
    """

    model: str
    input: InputSpec
    variants: tuple[Variant, ...]
    model_name: str
    work_dir: str


@dataclass(frozen=True)
class CheckJob:
    """Work for ``convert.check_child``: run ``files`` over the ``.npy`` inputs of ``work_dir``."""

    files: tuple[str, ...]
    work_dir: str


@dataclass(frozen=True)
class Observation:
    """What ``convert.check_child`` saw of one artifact; its outputs lie beside it as ``.npy``."""

    engine: str
    input: TensorSpec
    output: TensorSpec


def run_child(module: str, job: ExportJob | CheckJob, on_line: Callable[[str], None] | None = None) -> None:
    """Run ``python -m module JOB.json`` and wait for it.

    Args:
        module: The child's module.
        job: Its work, written as JSON into the job's work folder.
        on_line: Called with each line of the child's standard output.

    Raises:
        EngineError: The child failed; the end of its log is in the message.
    """
    work_dir = Path(job.work_dir)
    job_file, log_file = work_dir / f"{module}.json", work_dir / f"{module}.log"
    write_json(job_file, job)
    with log_file.open("wb") as log:
        # In the work folder, because python -m looks for modules in the current one first, and that is the user's.
        child = subprocess.Popen(
            [sys.executable, "-m", module, str(job_file)], stdout=subprocess.PIPE, stderr=log, text=True, cwd=work_dir
        )
        try:
            for line in child.stdout or ():
                if on_line:
                    on_line(line.rstrip("\n"))
            code = child.wait()
        finally:
            # Ctrl-C in the parent must not leave a converter running.
            child.kill()
            child.wait()
    if code != 0:
        tail = "\n".join(log_file.read_text(errors="replace").splitlines()[-_LOG_LINES:])
        raise EngineError(f"{module} ended with code {code}; its last lines were:\n{tail}")


def read_json(path: Path, cls: type[T]) -> T:
    """Read a job or an observation that another process of the conversion wrote."""
    return from_mapping(cls, json.loads(path.read_text()), path.name)


def write_json(path: Path, value: ExportJob | CheckJob | Observation) -> None:
    """Write what `read_json` reads."""
    path.write_text(json.dumps(to_mapping(value)))
