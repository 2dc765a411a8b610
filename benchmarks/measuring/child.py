"""Measuring child: open one model, answer the first image, then serve requests, timed bursts and stages among them.

A child program gets two arguments: a `ChildSpec` as JSON and the number of an open pipe. Requests are JSON lines on
standard input, replies JSON lines on the pipe, which no print of a runtime can reach; end of input ends the child.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from benchmarks.measuring import STARTED_NS, protocol
from edge_runtime.errors import EdgeKitError, EngineError
from edge_runtime.strict import from_mapping

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edge_runtime.contract import InputSpec
    from edge_runtime.preprocess import ImageU8

TRAINING_LIBRARIES = ("tensorflow", "keras", "jax")
_NS_PER_S = 1_000_000_000
_WARM_UP_CALLS = 2
_STAGES_WARM_UP_S = 0.1
_IMAGES_IN_TURN = 8  # enough that no call sees the previous image, few enough to stay out of the memory figures


class Subject(ABC):
    """An open model that is measured; the stages of classifying an image file can be called one by one.

    Attributes:
        runtime: Runtime and version, such as ``litert 2.3.0``.
        input_spec: Geometry of the model's input.
        call: Function timed by single-stream: one prepared image, uint8 [H, W, 3] RGB, to its probabilities.
    """

    runtime: str
    input_spec: InputSpec
    call: Callable[[ImageU8], object]

    @abstractmethod
    def delegate(self) -> str | None:
        """Name the executor of the operators; None if the runtime does not tell."""

    def decode(self, image: Path) -> ImageU8:
        """Read and decode an image file as the device does: uint8 [height, width, 3] RGB."""
        from edge_runtime.image_files import BIN_SUFFIX
        from edge_runtime.preprocess import load_image, load_prepared

        return load_prepared(image, self.input_spec) if image.suffix.lower() == BIN_SUFFIX else load_image(image)

    def prepare(self, image_hwc_rgb_u8: ImageU8) -> ImageU8:
        """Crop and resize as the device does: uint8 [H, W, 3] RGB."""
        from edge_runtime.preprocess import prepare

        return prepare(image_hwc_rgb_u8, self.input_spec)

    @abstractmethod
    def invoke(self, prepared_hwc_rgb_u8: ImageU8) -> NDArray[Any]:
        """Run the model on one prepared image and return its raw output."""

    @abstractmethod
    def postprocess(self, output: NDArray[Any]) -> object:
        """Turn a raw output into the five best labels with their probabilities."""

    @abstractmethod
    def answers(self, images_nhwc_rgb_u8: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute the probabilities of all images: uint8 [N, H, W, 3] to float32 [N, labels]."""

    @abstractmethod
    def offline(self, request: protocol.AskOffline) -> protocol.OfflineRun:
        """Classify image files at full speed; raises EngineError if that does not apply."""

    @abstractmethod
    def camera(self, request: protocol.AskCamera) -> protocol.CameraTrace:
        """Follow a paced camera; raises EngineError if that does not apply."""

    def check(self) -> None:  # noqa: B027 - nothing to check by default
        """Raise EngineError if the last measurement must not be reported."""

    def close(self) -> None:  # noqa: B027 - nothing to release by default
        """Release the model."""


Loader = Callable[[protocol.ChildSpec], Subject]


def run_child(import_runtime: Callable[[], Loader]) -> None:
    """Run a child program; ``import_runtime`` imports the libraries and returns the function that opens the model."""
    spec = from_mapping(protocol.ChildSpec, json.loads(sys.argv[1]), "spec")
    os.set_inheritable(int(sys.argv[2]), False)
    with os.fdopen(int(sys.argv[2]), "w", encoding="utf-8") as replies:
        try:
            subject, opened = _open(spec, import_runtime)
        except EdgeKitError as error:
            _send(replies, protocol.ChildFailure(str(error)))
            return
        _send(replies, opened)
        _serve(subject, _private_input(), replies)
        subject.close()
        # TensorFlow takes a second to shut down, which would disturb the next timed process.
        os._exit(0)


def is_training_loaded() -> bool:
    """Tell whether TensorFlow, Keras or JAX has been imported into this process."""
    return any(library in sys.modules for library in TRAINING_LIBRARIES)


def _open(spec: protocol.ChildSpec, import_runtime: Callable[[], Loader]) -> tuple[Subject, protocol.Opened]:
    load = import_runtime()
    imported_ns = time.monotonic_ns()
    subject = load(spec)
    loaded_ns = time.monotonic_ns()
    image = subject.decode(Path(spec.image))
    subject.postprocess(subject.invoke(subject.prepare(image)))
    answered_ns = time.monotonic_ns()
    subject.check()
    moments_ns = STARTED_NS, imported_ns, loaded_ns, answered_ns
    return subject, protocol.Opened(subject.runtime, subject.delegate(), *moments_ns)


def _private_input() -> TextIO:
    """Move standard input out of the reach of runtimes and of processes that the child starts."""
    requests = os.fdopen(os.dup(0), encoding="utf-8")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    return requests


def _serve(subject: Subject, requests: TextIO, replies: TextIO) -> None:
    for line in iter(requests.readline, ""):
        reply: protocol.Reply | protocol.ChildFailure
        try:
            reply = _answer(subject, line)
            subject.check()
        except EdgeKitError as error:
            reply = protocol.ChildFailure(str(error))
        _send(replies, reply)


def _answer(subject: Subject, line: str) -> protocol.Reply:
    request = protocol.decode(line)
    if isinstance(request, protocol.AskBurst):
        return time_burst(subject.call, request)
    if isinstance(request, protocol.AskMemory):
        return memory()
    if isinstance(request, protocol.AskStages):
        return time_stages(subject, request)
    if isinstance(request, protocol.AskOffline):
        return subject.offline(request)
    if isinstance(request, protocol.AskCamera):
        return subject.camera(request)
    if isinstance(request, protocol.AskAnswers):
        import numpy as np

        np.save(request.output, subject.answers(np.load(request.images, mmap_mode="r")))
        return protocol.Answered(is_training_loaded())
    raise EngineError(f"expected a request, got {type(request).__name__}")


def _send(replies: TextIO, message: protocol.Reply | protocol.ChildFailure) -> None:
    replies.write(protocol.encode(message))
    replies.flush()


def time_burst(call: Callable[[ImageU8], object], request: protocol.AskBurst) -> protocol.Burst:
    """Time single calls on a few images in turn; see `AskBurst`.

    The images are copied out of the mapped file first, so that no page of it is read inside a timed call.
    """
    import numpy as np

    images = np.load(request.images, mmap_mode="r")
    inputs: list[ImageU8] = [np.array(images[index]) for index in spread(len(images), _IMAGES_IN_TURN)]
    del images
    warm_up(call, inputs, request.warm_up_s)
    waited_before_ns, cpu_before_ns = run_queue_wait_ns(), time.process_time_ns()
    latencies_ns = time_calls(call, inputs, request.duration_s, request.queries)
    cpu_ns, waited_ns = time.process_time_ns() - cpu_before_ns, run_queue_wait_ns()
    if waited_ns is None or waited_before_ns is None:
        return protocol.Burst(latencies_ns, cpu_ns, None)
    # The sum falls when a thread ends in between.
    return protocol.Burst(latencies_ns, cpu_ns, max(0, waited_ns - waited_before_ns))


def time_calls(
    call: Callable[[ImageU8], object],
    images: Sequence[ImageU8],
    duration_s: float,
    queries: int,
    clock_ns: Callable[[], int] = time.perf_counter_ns,
) -> tuple[int, ...]:
    """Time each call by itself, in nanoseconds and in order, until both their sum and their number are reached."""
    latencies_ns: list[int] = []
    total_ns, wanted_ns = 0, int(duration_s * _NS_PER_S)
    turn = itertools.cycle(images)
    while total_ns < wanted_ns or len(latencies_ns) < queries:
        image = next(turn)
        before_ns = clock_ns()
        call(image)
        latency_ns = clock_ns() - before_ns
        latencies_ns.append(latency_ns)
        total_ns += latency_ns
    return tuple(latencies_ns)


def warm_up(
    call: Callable[[ImageU8], object],
    images: Sequence[ImageU8],
    duration_s: float,
    clock_ns: Callable[[], int] = time.perf_counter_ns,
) -> int:
    """Call for a duration and at least twice; return the number of calls."""
    start_ns, calls = clock_ns(), 0
    while calls < _WARM_UP_CALLS or clock_ns() - start_ns < duration_s * _NS_PER_S:
        call(images[calls % len(images)])
        calls += 1
    return calls


def time_stages(subject: Subject, request: protocol.AskStages) -> protocol.StageTimes:
    """Time the stages apart, one image file after another, as a device works.

    Every inference follows a decoding, which leaves the caches as on a device: this stage may take longer than a
    single-stream call, which follows another call.
    """
    paths = read_paths(request.paths)
    if not paths:
        raise EngineError(f"{request.paths}: expected a list of images, got an empty file")
    chosen = [paths[index] for index in spread(len(paths), request.images)]
    until_s = time.perf_counter() + _STAGES_WARM_UP_S
    for path in itertools.cycle(chosen):
        _time_file(subject, path)
        if time.perf_counter() >= until_s:
            break
    rows = [_time_file(subject, path) for path in chosen]
    return protocol.StageTimes(*zip(*rows, strict=True))


def _time_file(subject: Subject, path: Path) -> tuple[int, int, int, int]:
    clock_ns = time.perf_counter_ns
    start_ns = clock_ns()
    image = subject.decode(path)
    decoded_ns = clock_ns()
    prepared = subject.prepare(image)
    prepared_ns = clock_ns()
    output = subject.invoke(prepared)
    invoked_ns = clock_ns()
    subject.postprocess(output)
    end_ns = clock_ns()
    return decoded_ns - start_ns, prepared_ns - decoded_ns, invoked_ns - prepared_ns, end_ns - invoked_ns


def spread(count: int, wanted: int) -> list[int]:
    """Choose at most ``wanted`` indices, evenly over ``range(count)``: images often come sorted by label."""
    taken = min(count, max(1, wanted))
    return [index * count // taken for index in range(taken)]


def read_paths(file: str) -> list[Path]:
    """Read the paths of a text file with one per line; names that are not UTF-8 survive."""
    # Not splitlines: a name may hold one of the other characters that Unicode takes for a line end.
    lines = Path(file).read_text(encoding="utf-8", errors="surrogateescape").split("\n")
    return [Path(line) for line in lines if line]


def memory() -> protocol.Memory:
    """Read the resident memory of this process: highest so far, and now.

    The peak is ``VmHWM``: ``ru_maxrss`` of Linux starts with the memory of the process that spawned this one, so a
    parent that has decoded a thousand images would add its size to every child.
    """
    status = Path("/proc/self/status")
    found: dict[str, int] = {}
    for line in status.read_text(errors="replace").splitlines() if status.exists() else ():
        name, _, value = line.partition(":")
        if name in ("VmHWM", "VmRSS"):
            found[name] = int(value.split()[0]) * 1024
    return protocol.Memory(found.get("VmHWM"), found.get("VmRSS"))


def run_queue_wait_ns() -> int | None:
    """Read the time that this process' threads were ready to run but had no CPU; None if the kernel does not tell.

    It is the second field of ``schedstat`` (Linux, Documentation/scheduler/sched-stats.rst). Unlike the load average it
    concerns these calls only, and unlike CPU time it does not count waiting for an accelerator.
    """
    fields = []
    for task in Path("/proc/self/task").glob("*"):
        try:
            fields.append((task / "schedstat").read_text().split())
        except OSError:
            continue  # a thread that has just ended, or a kernel without these figures
    return sum(int(field[1]) for field in fields) if fields else None
