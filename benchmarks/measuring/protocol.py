"""What the parent and a measuring child process say to each other, as two JSON files.

The child's standard output is not used, because runtimes print there.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from edge_runtime.errors import EngineError
from edge_runtime.strict import from_mapping, to_mapping

T = TypeVar("T")


@dataclass(frozen=True)
class ChildSpec:
    """What a child shall measure.

    Attributes:
        model: A bundle (artifact child) or a run directory (Keras child).
        variant: The artifact's variant, ``keras-predict`` or ``keras-function``.
        threads: Threads inside one inference.
        picture: The picture file of the first answer.
        images: ``.npy`` file, uint8 [N, H, W, 3] RGB; None ends the child after its first answer.
        top1: ``.npy`` file that the child writes: int32 [N], index of the answer's label for each of ``images``.
        invocations: How many calls to time.
        answer: JSON file that the child writes: a `ChildAnswer`.
    """

    model: str
    variant: str
    threads: int
    picture: str
    images: str | None
    top1: str
    invocations: int
    answer: str


@dataclass(frozen=True)
class Timeline:
    """Moments of a child's start, in nanoseconds of ``time.monotonic_ns``, which all processes share."""

    started_ns: int
    imported_ns: int
    loaded_ns: int
    answered_ns: int


@dataclass(frozen=True)
class Measured:
    """What a child measured after its first answer.

    Attributes:
        latencies_ns: One per timed call, in order.
        waiting: Time during the timed calls in which the process was ready to run but another had the processor,
            divided by their time; None where the kernel does not say. Near 0 on a quiet machine.
        peak_memory_bytes: Highest resident memory of the process up to the last timed call; None where unknown.
    """

    latencies_ns: tuple[int, ...]
    waiting: float | None
    peak_memory_bytes: int | None


@dataclass(frozen=True)
class ChildAnswer:
    """What a child says.

    Attributes:
        runtime: Runtime and version, such as ``litert 2.3.0``.
        tensorflow_loaded: Whether TensorFlow, Keras or JAX was in ``sys.modules`` at the end.
        timeline: The start.
        measured: None where ``ChildSpec.images`` was None.
    """

    runtime: str
    tensorflow_loaded: bool
    timeline: Timeline
    measured: Measured | None


@dataclass(frozen=True)
class ChildFailure:
    """What a child says instead, where the model could not be used: one sentence."""

    error: str


def write_message(path: Path, message: object) -> None:
    """Write a dataclass as JSON."""
    path.write_text(json.dumps(to_mapping(message)), encoding="utf-8")


def read_message(cls: type[T], path: Path) -> T:
    """Read a dataclass that `write_message` wrote.

    Raises:
        EngineError: It is a `ChildFailure`.
        ManifestError: A field is unknown, missing or of the wrong type.
    """
    data = json.loads(path.read_text(encoding="utf-8"))
    if "error" in data:
        raise EngineError(from_mapping(ChildFailure, data, "ChildFailure").error)
    return from_mapping(cls, data, cls.__name__)
