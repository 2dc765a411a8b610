"""Timed bursts and stages, memory and run-queue wait of the own process."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from benchmarks.measuring.protocol import AskBurst, AskStages, Burst, Memory, StageTimes
from edge_runtime.errors import EngineError

if TYPE_CHECKING:
    from edge_runtime.preprocess import ImageU8


_NS_PER_S = 1_000_000_000
_WARM_UP_CALLS = 2
_STAGES_WARM_UP_S = 0.1
_IMAGES_IN_TURN = 8  # enough that no call sees what the last one saw, few enough to stay out of the memory figures


class Stages(Protocol):
    """The stages of classifying one image file, one by one, as the device takes them."""

    def decode(self, image: Path) -> ImageU8:
        """Read and decode: uint8 [height, width, 3] RGB."""
        ...

    def prepare(self, image_hwc_rgb_u8: ImageU8) -> ImageU8:
        """Crop and resize: uint8 [H, W, 3] RGB."""
        ...

    def invoke(self, prepared_hwc_rgb_u8: ImageU8) -> Any:
        """The model's raw output for one prepared image."""
        ...

    def postprocess(self, output: Any) -> object:
        """Real values, a probability a label, the best five."""
        ...


def time_burst(call: Callable[[ImageU8], object], request: AskBurst) -> Burst:
    """Time single calls on a few images in turn; see `AskBurst`.

    The images are copied out of the mapped file beforehand: no page of it is fetched inside a timed call.
    """
    import numpy as np

    images = np.load(request.images, mmap_mode="r")
    inputs: list[ImageU8] = [np.array(images[index]) for index in spread(len(images), _IMAGES_IN_TURN)]
    del images
    warm_up(call, inputs, request.warm_up_s)
    waited_before_ns, cpu_before_ns = run_queue_wait_ns(), time.process_time_ns()
    latencies_ns = time_calls(call, inputs, request.duration_s, request.queries)
    cpu_ns, waited_ns = time.process_time_ns() - cpu_before_ns, run_queue_wait_ns()
    # The sum falls when a thread ends in between.
    known = waited_ns is not None and waited_before_ns is not None
    waiting_ns = max(0, (waited_ns or 0) - (waited_before_ns or 0)) if known else None
    return Burst(latencies_ns, cpu_ns, waiting_ns)


def time_calls(
    call: Callable[[ImageU8], object],
    paths: Sequence[ImageU8],
    duration_s: float,
    queries: int,
    clock_ns: Callable[[], int] = time.perf_counter_ns,
) -> tuple[int, ...]:
    """Time each call by itself, in nanoseconds and in order, until both their sum and their number are reached."""
    latencies_ns: list[int] = []
    total_ns, wanted_ns = 0, int(duration_s * _NS_PER_S)
    turn = itertools.cycle(paths)
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
    paths: Sequence[ImageU8],
    duration_s: float,
    clock_ns: Callable[[], int] = time.perf_counter_ns,
) -> int:
    """Call until so much time and at least 2 calls are over; gives the number of calls."""
    start_ns, calls = clock_ns(), 0
    while calls < _WARM_UP_CALLS or clock_ns() - start_ns < duration_s * _NS_PER_S:
        call(paths[calls % len(paths)])
        calls += 1
    return calls


def time_stages(stages: Stages, request: AskStages) -> StageTimes:
    """Time the stages apart, each image file in turn, as one image after another goes through a device.

    Every inference follows a decoding, which leaves the caches to it as they are on a device: its stage may take longer
    than a single-stream call, which follows another.

    Raises:
        EdgeKitError: An image cannot be used, or the runtime failed.
    """
    paths = read_paths(request.paths)
    if not paths:
        raise EngineError(f"{request.paths}: expected a list of images, got an empty file")
    chosen = [paths[index] for index in spread(len(paths), request.images)]
    until_s = time.perf_counter() + _STAGES_WARM_UP_S
    for path in itertools.cycle(chosen):
        _time_file(stages, path)
        if time.perf_counter() >= until_s:
            break
    rows = [_time_file(stages, path) for path in chosen]
    decode_ns, preprocess_ns, invoke_ns, postprocess_ns = zip(*rows, strict=True)
    return StageTimes(decode_ns, preprocess_ns, invoke_ns, postprocess_ns)


def _time_file(stages: Stages, path: Path) -> tuple[int, int, int, int]:
    clock_ns = time.perf_counter_ns
    start_ns = clock_ns()
    image = stages.decode(path)
    decoded_ns = clock_ns()
    prepared = stages.prepare(image)
    prepared_ns = clock_ns()
    output = stages.invoke(prepared)
    invoked_ns = clock_ns()
    stages.postprocess(output)
    end_ns = clock_ns()
    return decoded_ns - start_ns, prepared_ns - decoded_ns, invoked_ns - prepared_ns, end_ns - invoked_ns


def spread(count: int, wanted: int) -> list[int]:
    """At most ``wanted`` indices, evenly over ``range(count)``: images often come sorted by label."""
    taken = min(count, max(1, wanted))
    return [index * count // taken for index in range(taken)]


def read_paths(file: str) -> list[Path]:
    """The paths of a text file with one a line; names that are no UTF-8 survive."""
    # Not splitlines: a name may hold one of the other characters that Unicode takes for a line end.
    lines = Path(file).read_text(encoding="utf-8", errors="surrogateescape").split("\n")
    return [Path(line) for line in lines if line]


def memory() -> Memory:
    """Resident memory of this process: highest so far, and now.

    The peak is read from ``VmHWM``: Linux lets ``ru_maxrss`` begin with the memory of the process that spawned this
    one, so a parent that has decoded a thousand images would lend its size to every child.
    """
    status = Path("/proc/self/status")
    found: dict[str, int] = {}
    for line in status.read_text(errors="replace").splitlines() if status.exists() else ():
        name, _, value = line.partition(":")
        if name in ("VmHWM", "VmRSS"):
            found[name] = int(value.split()[0]) * 1024
    return Memory(found.get("VmHWM"), found.get("VmRSS"))


def run_queue_wait_ns() -> int | None:
    """Time that this process' threads were ready to run but had no processor; None where the kernel does not say.

    It is the second field of ``schedstat`` (Linux, Documentation/scheduler/sched-stats.rst). Unlike the load average it
    concerns these calls only, and unlike processor time it does not count waiting for an accelerator.
    """
    fields = []
    for task in Path("/proc/self/task").glob("*"):
        try:
            fields.append((task / "schedstat").read_text().split())
        except OSError:
            continue  # a thread that has just ended, or a kernel without these figures
    return sum(int(field[1]) for field in fields) if fields else None
