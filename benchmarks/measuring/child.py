"""Main loop of the measuring child programs: open one model, answer the first image, then serve requests.

``python -m MODULE SPEC FD``: SPEC is a `ChildSpec` as JSON, FD the number of an open pipe. Requests are JSON lines on
standard input, replies JSON lines on the pipe, which no print of a runtime can reach; end of input ends the child.

``python -m MODULE SPEC FD``: SPEC is a `ChildSpec` as JSON, FD the number of an open pipe. Requests are JSON lines on
standard input, replies JSON lines on the pipe, which no print of a runtime can reach; end of input ends the child.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TextIO

from benchmarks.measuring.protocol import (
    Answered,
    AskAnswers,
    AskBurst,
    AskCamera,
    AskMemory,
    AskOffline,
    AskStages,
    CameraTrace,
    ChildFailure,
    ChildSpec,
    OfflineRun,
    Opened,
    Reply,
    decode,
    encode,
)
from benchmarks.measuring.start_time import STARTED_NS
from benchmarks.measuring.timing import Stages, memory, time_burst, time_stages
from edge_runtime.errors import EdgeKitError, EngineError
from edge_runtime.platform.childproc import die_with_parent
from edge_runtime.strict import from_mapping

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edge_runtime.preprocess import ImageU8


# isort: split


TRAINING_LIBRARIES = ("tensorflow", "keras", "jax")


class Subject(Stages, Protocol):
    """An open model that is measured; its stages can be called one by one."""

    runtime: str
    """Runtime and version, such as ``litert 2.3.0``."""

    call: Callable[[ImageU8], object]
    """What single-stream times: one prepared image, uint8 [H, W, 3] RGB, to its probabilities."""

    def delegate(self) -> str | None:
        """What runs the operators, or None where the runtime does not say."""
        ...

    def answers(self, images_nhwc_rgb_u8: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities of all images: uint8 [N, H, W, 3] to float32 [N, labels]."""
        ...

    def offline(self, request: AskOffline) -> OfflineRun:
        """Classify image files at full speed; raises EngineError where that does not apply."""
        ...

    def camera(self, request: AskCamera) -> CameraTrace:
        """Follow a paced camera; raises EngineError where that does not apply."""
        ...

    def check(self) -> None:
        """Raise EngineError where what was just measured must not be reported."""
        ...

    def close(self) -> None:
        """Release the model."""
        ...


Loader = Callable[[ChildSpec], Subject]


def run_child(import_runtime: Callable[[], Loader]) -> None:
    """Body of a child program.

    Args:
        import_runtime: Imports what the subject needs and gives the function that opens the model, so that both are
            timed apart.
    """
    die_with_parent()
    spec = from_mapping(ChildSpec, json.loads(sys.argv[1]), "spec")
    os.set_inheritable(int(sys.argv[2]), False)
    with os.fdopen(int(sys.argv[2]), "w", encoding="utf-8") as replies:
        try:
            subject, opened = _open(spec, import_runtime)
        except EdgeKitError as error:
            _send(replies, ChildFailure(str(error)))
            return
        _send(replies, opened)
        _serve(subject, _private_input(), replies)
        subject.close()
        # TensorFlow takes a second to take itself apart, which the next process to be timed would feel.
        os._exit(0)


def is_training_loaded() -> bool:
    """Whether TensorFlow, Keras or JAX has been imported into this process."""
    return any(library in sys.modules for library in TRAINING_LIBRARIES)


def _open(spec: ChildSpec, import_runtime: Callable[[], Loader]) -> tuple[Subject, Opened]:
    load = import_runtime()
    imported_ns = time.monotonic_ns()
    subject = load(spec)
    loaded_ns = time.monotonic_ns()
    image = subject.decode(Path(spec.image))
    subject.postprocess(subject.invoke(subject.prepare(image)))
    answered_ns = time.monotonic_ns()
    subject.check()
    return subject, Opened(subject.runtime, subject.delegate(), STARTED_NS, imported_ns, loaded_ns, answered_ns)


def _private_input() -> TextIO:
    """Standard input, out of the reach of runtimes and of processes that the child starts."""
    requests = os.fdopen(os.dup(0), encoding="utf-8")
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, 0)
    os.close(nowhere)
    return requests


def _serve(subject: Subject, requests: TextIO, replies: TextIO) -> None:
    for line in iter(requests.readline, ""):
        reply: Reply | ChildFailure
        try:
            reply = _answer(subject, line)
            subject.check()
        except EdgeKitError as error:
            reply = ChildFailure(str(error))
        _send(replies, reply)


def _answer(subject: Subject, line: str) -> Reply:
    request = decode(line)
    if isinstance(request, AskBurst):
        return time_burst(subject.call, request)
    if isinstance(request, AskMemory):
        return memory()
    if isinstance(request, AskStages):
        return time_stages(subject, request)
    if isinstance(request, AskOffline):
        return subject.offline(request)
    if isinstance(request, AskCamera):
        return subject.camera(request)
    if isinstance(request, AskAnswers):
        return _write_answers(subject, request)
    raise EngineError(f"expected a request, got {type(request).__name__}")


def _write_answers(subject: Subject, request: AskAnswers) -> Answered:
    import numpy as np

    np.save(request.output, subject.answers(np.load(request.images, mmap_mode="r")))
    return Answered(is_training_loaded())


def _send(replies: TextIO, message: Reply | ChildFailure) -> None:
    replies.write(encode(message))
    replies.flush()
