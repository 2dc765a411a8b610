"""Messages between the schedule and the measuring children, as JSON lines.

The child's standard output is not used, because runtimes print there. A request is a mapping with the name of its class
and its fields; see `encode` and `decode`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, TypeAlias

from edge_runtime.errors import EngineError
from edge_runtime.strict import from_mapping, to_mapping


@dataclass(frozen=True)
class ChildSpec:
    """What a child opens; the only argument of its command line, as JSON.

    Attributes:
        model: A bundle (artifact child) or a run directory (Keras child), absolute.
        variant: The artifact's variant, ``keras-predict``, ``keras-function`` or ``keras-xla``.
        threads: Threads inside one inference.
        image: The image file of the first answer, absolute.
    """

    model: str
    variant: str
    threads: int
    image: str


@dataclass(frozen=True)
class Opened:
    """The child's first line: it has answered its first image.

    The moments are nanoseconds of ``time.monotonic_ns``, which all processes share.

    Attributes:
        runtime: Runtime and version, such as ``litert 2.3.0``.
        delegate: What runs the operators, or None where the runtime does not say.
        started_ns: Its first line of Python.
        imported_ns: The libraries are imported.
        loaded_ns: The model is open.
        answered_ns: The first image is classified.
    """

    runtime: str
    delegate: str | None
    started_ns: int
    imported_ns: int
    loaded_ns: int
    answered_ns: int


@dataclass(frozen=True)
class AskAnswers:
    """Answer all images.

    Attributes:
        images: ``.npy`` file, uint8 [N, H, W, 3] RGB.
        output: ``.npy`` file that the child writes: float32 [N, labels], probabilities in label order.
    """

    images: str
    output: str


@dataclass(frozen=True)
class AskBurst:
    """Time single calls, one after another, on prepared images in turn.

    Attributes:
        images: ``.npy`` file, uint8 [N, H, W, 3] RGB.
        warm_up_s: Calls that do not count go on for so long (and for 2 calls at least).
        duration_s: Timed calls go on until their sum is so long,
        queries: and there are so many.
    """

    images: str
    warm_up_s: float
    duration_s: float
    queries: int


@dataclass(frozen=True)
class AskStages:
    """Time decoding, preprocessing, inference and postprocessing apart, of each image file in turn.

    Attributes:
        paths: Text file with a path a line.
        images: How many at most.
    """

    paths: str
    images: int


@dataclass(frozen=True)
class AskOffline:
    """Classify image files at full speed, as ``edge-run classify`` does a folder.

    Attributes:
        paths: Text file with a path a line; they are taken again from the start where there are too few.
        workers: Threads, each with an interpreter of its own.
        duration_s: Go on for so long.
    """

    paths: str
    workers: int
    duration_s: float


@dataclass(frozen=True)
class AskCamera:
    """Play decoded images as a paced camera through the camera loop.

    Attributes:
        paths: Text file with a path a line.
        fps: Rate of the camera.
        duration_s: Go on for so long.
    """

    paths: str
    fps: float
    duration_s: float


@dataclass(frozen=True)
class AskMemory:
    """Tell the process' memory."""


@dataclass(frozen=True)
class Answered:
    """The answers are written.

    Attributes:
        tensorflow_loaded: Whether TensorFlow, Keras or JAX is in ``sys.modules``.
    """

    tensorflow_loaded: bool


@dataclass(frozen=True)
class Burst:
    """Timed calls.

    Attributes:
        latencies_ns: One per timed call, in order.
        cpu_ns: Processor time of the whole process during the timed calls.
        waiting_ns: Time during them in which threads of the process were ready to run but had no processor, summed;
            None where the kernel does not say.
    """

    latencies_ns: tuple[int, ...]
    cpu_ns: int
    waiting_ns: int | None


@dataclass(frozen=True)
class StageTimes:
    """One entry an image, in nanoseconds."""

    decode_ns: tuple[int, ...]
    preprocess_ns: tuple[int, ...]
    invoke_ns: tuple[int, ...]
    postprocess_ns: tuple[int, ...]


@dataclass(frozen=True)
class OfflineRun:
    """Images that were classified after every worker had opened its interpreter, and what they took."""

    images: int
    wall_ns: int
    cpu_ns: int


@dataclass(frozen=True)
class CameraTrace:
    """What the camera loop made of a paced camera.

    Attributes:
        width: Of the frames, in pixels.
        height: Of the frames, in pixels.
        frames: Frames that the source showed.
        ages_ns: Age of each answered frame when its answer was ready.
    """

    width: int
    height: int
    frames: int
    ages_ns: tuple[int, ...]


@dataclass(frozen=True)
class Memory:
    """Resident memory in bytes; None where the kernel does not say."""

    peak_bytes: int | None
    resident_bytes: int | None


@dataclass(frozen=True)
class ChildFailure:
    """One sentence where it could not do what was asked; after its first line the child stays alive all the same."""

    error: str


Request: TypeAlias = AskAnswers | AskBurst | AskStages | AskOffline | AskCamera | AskMemory
Reply: TypeAlias = Opened | Answered | Burst | StageTimes | OfflineRun | CameraTrace | Memory
_MESSAGES: dict[str, Any] = {
    kind.__name__: kind
    for kind in (
        *(AskAnswers, AskBurst, AskStages, AskOffline, AskCamera, AskMemory),
        *(Opened, Answered, Burst, StageTimes, OfflineRun, CameraTrace, Memory, ChildFailure),
    )
}


def encode(message: Request | Reply | ChildFailure) -> str:
    """One line of JSON with a line end."""
    return json.dumps({"message": type(message).__name__, "fields": to_mapping(message)}) + "\n"


def decode(line: str) -> Request | Reply | ChildFailure:
    """The message of a line that `encode` made.

    Raises:
        EngineError: It is no such line.
    """
    try:
        data = json.loads(line)
        kind = _MESSAGES[data["message"]]
        fields = data["fields"]
    except (ValueError, KeyError, TypeError) as error:
        raise EngineError(f"expected a message of a measuring process, got {line[:200]!r}") from error
    message: Request | Reply | ChildFailure = from_mapping(kind, fields, kind.__name__)
    return message
