"""What the conversion process and ``convert.check.child`` say to each other, as JSON files in the work folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from edge_runtime.contract import TensorSpec
from edge_runtime.strict import from_mapping, to_mapping

T = TypeVar("T")


@dataclass(frozen=True)
class CheckJob:
    """Work for ``convert.check.child``.

    Attributes:
        files: The artefacts, as paths.
        work_dir: Holds the ``.npy`` inputs; outputs and observations are written here.
        workers: Pictures that are run at the same time, each by an interpreter of one thread; 0 means one a core.
        is_timed: Whether latency is measured after the outputs.
    """

    files: tuple[str, ...]
    work_dir: str
    workers: int = 0
    is_timed: bool = True


@dataclass(frozen=True)
class Observation:
    """What the child saw of one artefact; its outputs lie beside it as ``.npy``.

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
    """Why an artefact could not be run, in one sentence."""

    message: str


def read_outcome(work_dir: Path, file_name: str) -> Observation | CheckFailure | None:
    """What the child said of an artefact; None where its process died before it could say anything."""
    observation, failure = observation_file(work_dir, file_name), failure_file(work_dir, file_name)
    if observation.exists():
        return read_message(observation, Observation)
    return read_message(failure, CheckFailure) if failure.exists() else None


def observation_file(work_dir: Path, file_name: str) -> Path:
    """Where the `Observation` of an artefact lies."""
    return work_dir / f"{file_name}.json"


def failure_file(work_dir: Path, file_name: str) -> Path:
    """Where the `CheckFailure` of an artefact lies."""
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
