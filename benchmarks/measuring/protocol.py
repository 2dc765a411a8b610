"""Messages between the schedule and the measuring children, one JSON line each.

A line names the class of its message and holds the fields; see `encode` and `decode`. The child's standard output
carries none of them, because runtimes print there.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias, get_args

from edge_runtime.errors import EngineError
from edge_runtime.strict import from_mapping, to_mapping


@dataclass(frozen=True)
class ChildSpec:
    """Model that a child opens; the first argument of its command line, as JSON."""

    model: Annotated[str, "Bundle (artifact child) or run directory (Keras child), absolute."]
    variant: Annotated[str, "Variant of the artifact, ``keras-predict``, ``keras-function`` or ``keras-xla``."]
    threads: Annotated[int, "Threads inside one inference."]
    image: Annotated[str, "Image file of the first answer, absolute."]


@dataclass(frozen=True)
class AskAnswers:
    """Request to write the probabilities of all ``images`` (``.npy``, uint8 [N, H, W, 3] RGB) to ``output``.

    The output is a ``.npy`` file of float32 [N, labels], in label order.
    """

    images: str
    output: str


@dataclass(frozen=True)
class AskBurst:
    """Request for timed calls, one after another, on prepared images in turn."""

    images: Annotated[str, "``.npy`` file, uint8 [N, H, W, 3] RGB."]
    warm_up_s: Annotated[float, "Least duration of the calls that do not count; at least 2 are made."]
    duration_s: Annotated[float, "Least sum of the timed calls."]
    queries: Annotated[int, "Least number of timed calls."]


@dataclass(frozen=True)
class AskStages:
    """Request to time the stages apart over at most ``images`` of the paths in a text file, one per line."""

    paths: str
    images: int


@dataclass(frozen=True)
class AskOffline:
    """Request to classify image files at full speed for a least duration, as ``edge-run classify`` does with a folder.

    The paths, one per line of a text file, are repeated. Each worker is a thread with its own interpreter.
    """

    paths: str
    workers: int
    duration_s: float


@dataclass(frozen=True)
class AskCamera:
    """Request to play the images of a text file, one path per line, as a paced camera through the camera loop."""

    paths: str
    fps: float
    duration_s: float


@dataclass(frozen=True)
class AskMemory:
    """Request for the memory of the process."""


@dataclass(frozen=True)
class Opened:
    """First line of a child: the model is open and has answered its first image; see `Subject` and `Start`.

    The moments are nanoseconds of ``time.monotonic_ns``, which all processes share: the first line of Python, the
    libraries imported, the model open, the first image classified.
    """

    runtime: str
    delegate: str | None
    started_ns: int
    imported_ns: int
    loaded_ns: int
    answered_ns: int


@dataclass(frozen=True)
class Answered:
    """Reply to `AskAnswers`; tells whether TensorFlow, Keras or JAX was in ``sys.modules``."""

    tensorflow_loaded: bool


@dataclass(frozen=True)
class Burst:
    """Timed calls."""

    latencies_ns: Annotated[tuple[int, ...], "Latency of each timed call, in order."]
    cpu_ns: Annotated[int, "CPU time of the whole process during the timed calls."]
    waiting_ns: Annotated[
        int | None,
        "Time in which threads of the process were ready to run but had no CPU, summed over the threads; None if the "
        "kernel does not tell.",
    ]


@dataclass(frozen=True)
class StageTimes:
    """Duration of each stage in nanoseconds, one entry per image."""

    decode_ns: tuple[int, ...]
    preprocess_ns: tuple[int, ...]
    invoke_ns: tuple[int, ...]
    postprocess_ns: tuple[int, ...]


@dataclass(frozen=True)
class OfflineRun:
    """Images classified after every worker had opened its interpreter, with wall and CPU time."""

    images: int
    wall_ns: int
    cpu_ns: int


@dataclass(frozen=True)
class CameraTrace:
    """Result of a paced camera: frame size in pixels, frames shown, and the age of each answered frame."""

    width: int
    height: int
    frames: int
    ages_ns: tuple[int, ...]


@dataclass(frozen=True)
class Memory:
    """Resident memory in bytes, highest and current; None if the kernel does not tell."""

    peak_bytes: int | None
    resident_bytes: int | None


@dataclass(frozen=True)
class ChildFailure:
    """One sentence on a request that failed; unless it is the child's first line, the child keeps serving."""

    error: str


Request: TypeAlias = AskAnswers | AskBurst | AskStages | AskOffline | AskCamera | AskMemory
Reply: TypeAlias = Opened | Answered | Burst | StageTimes | OfflineRun | CameraTrace | Memory
Message: TypeAlias = Request | Reply | ChildFailure
_MESSAGES: dict[str, Any] = {kind.__name__: kind for kind in get_args(Message)}


def encode(message: Message) -> str:
    """Write a message as one line of JSON with a line end."""
    return json.dumps({"message": type(message).__name__, "fields": to_mapping(message)}) + "\n"


def decode(line: str) -> Message:
    """Read the message of a line that `encode` made.

    Raises:
        EngineError: The line holds no message.
    """
    try:
        data = json.loads(line)
        kind = _MESSAGES[data["message"]]
        fields = data["fields"]
    except (ValueError, KeyError, TypeError) as error:
        raise EngineError(f"expected a message of a measuring process, got {line[:200]!r}") from error
    message: Message = from_mapping(kind, fields, kind.__name__)
    return message
