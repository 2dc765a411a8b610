"""What the measuring child processes share: start, first answer, timed calls, memory, then answers for all pictures."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from benchmarks.measuring.protocol import (
    ChildAnswer,
    ChildFailure,
    ChildSpec,
    Measured,
    Timeline,
    read_message,
    write_message,
)
from edge_runtime.child import die_with_parent
from edge_runtime.errors import EdgeKitError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edge_runtime.preprocess import ImageU8

TRAINING_LIBRARIES = ("tensorflow", "keras", "jax")
_WARM_UP_CALLS = 5
_WARM_UP_NS = 500_000_000  # long enough for a frequency governor to notice the load


class Subject(Protocol):
    """A loaded model that is measured."""

    runtime: str
    """Runtime and version, such as ``litert 2.3.0``."""

    def prepare(self, picture: Path) -> ImageU8:
        """Decode and prepare a picture file: uint8 [H, W, 3] RGB."""
        ...

    def invoke(self, prepared_hwc_rgb_u8: ImageU8) -> NDArray[np.float32]:
        """The call that is timed: one prepared picture to its output, float32."""
        ...

    def top1(self, images_nhwc_rgb_u8: NDArray[np.uint8]) -> NDArray[np.int32]:
        """Label index of the answer for each picture: uint8 [N, H, W, 3] to int32 [N]."""
        ...


Loader = Callable[[ChildSpec], Subject]


def run_child(import_runtime: Callable[[], Loader]) -> None:
    """Body of a child program: read the specification named on the command line, measure, write the answer.

    Args:
        import_runtime: Imports what the subject needs and gives the function that loads the model, so that both
            are timed apart.
    """
    started_ns = time.monotonic_ns()
    die_with_parent()
    spec = read_message(ChildSpec, Path(sys.argv[1]))
    answer: ChildAnswer | ChildFailure
    try:
        answer = _measure(spec, started_ns, import_runtime)
    except EdgeKitError as error:
        answer = ChildFailure(str(error))
    write_message(Path(spec.answer), answer)


def time_calls(
    call: Callable[[], object], count: int, clock_ns: Callable[[], int] = time.perf_counter_ns
) -> tuple[int, ...]:
    """Time each of ``count`` calls by itself, in nanoseconds and in order."""
    latencies = []
    for _ in range(count):
        before = clock_ns()
        call()
        latencies.append(clock_ns() - before)
    return tuple(latencies)


def warm_up(call: Callable[[], object], clock_ns: Callable[[], int] = time.perf_counter_ns) -> int:
    """Call until both 5 calls and half a second are over; gives the number of calls."""
    start, calls = clock_ns(), 0
    while calls < _WARM_UP_CALLS or clock_ns() - start < _WARM_UP_NS:
        call()
        calls += 1
    return calls


def peak_memory_bytes() -> int | None:
    """Highest resident memory of this process so far; None where the kernel does not say.

    Read from ``VmHWM``: Linux lets ``ru_maxrss`` begin with the memory of the process that spawned this one, so a
    parent that has decoded a thousand pictures would lend its size to every child.
    """
    status = Path("/proc/self/status")
    for line in status.read_text(errors="replace").splitlines() if status.exists() else ():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None


def run_queue_wait_ns() -> int | None:
    """Time that this process' threads were ready to run but had no processor; None where the kernel does not say.

    It is the second field of ``schedstat`` (Linux, Documentation/scheduler/sched-stats.rst). Unlike the load average it
    concerns these calls only, and unlike processor time it does not count waiting for an accelerator.
    """
    tasks = [task / "schedstat" for task in Path("/proc/self/task").glob("*")]
    fields = [task.read_text().split() for task in tasks if task.exists()]
    return sum(int(field[1]) for field in fields) if fields else None


def is_training_loaded() -> bool:
    """Whether TensorFlow, Keras or JAX has been imported into this process."""
    return any(library in sys.modules for library in TRAINING_LIBRARIES)


def _measure(spec: ChildSpec, started_ns: int, import_runtime: Callable[[], Loader]) -> ChildAnswer:
    load = import_runtime()
    imported_ns = time.monotonic_ns()
    subject = load(spec)
    loaded_ns = time.monotonic_ns()
    subject.invoke(subject.prepare(Path(spec.picture)))
    timeline = Timeline(started_ns, imported_ns, loaded_ns, time.monotonic_ns())
    measured = _measure_steady(spec, spec.images, subject) if spec.images is not None else None
    return ChildAnswer(subject.runtime, is_training_loaded(), timeline, measured)


def _measure_steady(spec: ChildSpec, images_file: str, subject: Subject) -> Measured:
    import numpy as np

    images = np.load(images_file, mmap_mode="r")
    picture: ImageU8 = np.array(images[0])
    warm_up(lambda: subject.invoke(picture))
    waited_before_ns = run_queue_wait_ns()
    latencies_ns = time_calls(lambda: subject.invoke(picture), spec.invocations)
    waited_ns = run_queue_wait_ns()
    waiting = None
    if waited_ns is not None and waited_before_ns is not None:
        waiting = max(0, waited_ns - waited_before_ns) / max(1, sum(latencies_ns))
    # Before the pictures are touched: they would count as memory of the process.
    measured = Measured(latencies_ns, waiting, peak_memory_bytes())
    np.save(spec.top1, subject.top1(images))
    return measured
