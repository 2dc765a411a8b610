"""Child process that runs artifacts on the check and golden inputs; never imports TensorFlow.

``python -m convert.check_child JOB.json`` writes, for each artifact, its probabilities as ``NAME-check.npy`` and
``NAME-golden.npy`` and then its observation as ``NAME.json``, or ``NAME.error.json`` if it could not be run. An
artifact that crashes the process leaves neither; the files of those before it are complete.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convert import children
from edge_runtime.classifier import Classifier
from edge_runtime.engines import Engine
from edge_runtime.errors import EdgeKitError, EngineError
from edge_runtime.platform.process import core_count

_INVOKES_A_TURN = 10
_FEWEST_INVOKES = 3
_MOST_TURNS = 20
_BUDGET_NS = 400_000_000
_NS_PER_MS = 1e6
# Errors of a runtime about one artifact. A full disk is not among them: the artifact is not the cause.
_ERRORS = (EdgeKitError, RuntimeError, ValueError, MemoryError)
_LONGEST_MESSAGE = 1000


def main() -> None:
    """Read the job named on the command line and carry it out."""
    job = children.read_message(Path(sys.argv[1]), children.CheckJob)
    work_dir, workers = Path(job.work_dir), job.workers or core_count()
    try:
        for name in job.files:
            check(Path(name), work_dir, workers)
            print(name, flush=True)
        if job.is_timed:
            add_latencies([Path(name) for name in job.files], work_dir)
    except OSError as error:
        raise SystemExit(f"{work_dir}: cannot be read or written ({error.strerror or error})") from error
    if "tensorflow" in sys.modules:
        raise SystemExit("the check process imported TensorFlow, so it proves nothing about a device")


def check(file: Path, work_dir: Path, workers: int) -> None:
    """Run one artifact as a device would and save its probabilities, float32 [images, labels], in the work folder.

    ``workers`` interpreters with one thread each share the images.
    """
    observation_file, failure_file = children.outcome_files(work_dir, file.name)
    # Outcomes of an earlier file of the same name must not remain.
    observation_file.unlink(missing_ok=True)
    failure_file.unlink(missing_ok=True)
    try:
        with contextlib.ExitStack() as stack:
            classifiers = [stack.enter_context(Classifier(file)) for _ in range(workers)]
            for name in (children.CHECK_FILE, children.GOLDEN_INPUT_FILE):
                outputs = run_all(classifiers, np.load(work_dir / name, mmap_mode="r"))
                if not np.isfinite(outputs).all():
                    raise EngineError("gave values that are not numbers; the export is wrong")
                np.save(work_dir / f"{file.name}-{name}", outputs)
            engine = classifiers[0].engine
            about = f"{engine.name} {engine.version}"
            observation = children.Observation(about, engine.input, engine.output, latency_ms=0.0)
    except _ERRORS as error:
        sentence = " ".join(str(error).split())[:_LONGEST_MESSAGE] or type(error).__name__
        children.write_message(failure_file, children.CheckFailure(sentence))
        return
    children.write_message(observation_file, observation)


def run_all(classifiers: Sequence[Classifier], images_nhwc_rgb_u8: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Compute the probabilities of all images, in their order: float32 [images, labels].

    Each classifier takes a share of the images in its own thread; runtimes compute without Python's lock.
    """
    outputs = np.empty((len(images_nhwc_rgb_u8), len(classifiers[0].labels)), np.float32)

    def run(classifier: Classifier, rows: NDArray[np.intp]) -> None:
        for row in rows:
            outputs[row] = classifier.probabilities(images_nhwc_rgb_u8[row])

    stretches = np.array_split(np.arange(len(outputs)), len(classifiers))
    with ThreadPoolExecutor(len(classifiers)) as pool:
        for done in [pool.submit(run, *pair) for pair in zip(classifiers, stretches, strict=True)]:
            done.result()
    return outputs


def add_latencies(files: Sequence[Path], work_dir: Path) -> None:
    """Time all artifacts that could be run and write the latency into their observations."""
    written = {file: children.outcome_files(work_dir, file.name)[0] for file in files}
    runnable = [file for file in files if written[file].exists()]
    image_hwc_rgb_u8 = np.array(np.load(work_dir / children.GOLDEN_INPUT_FILE, mmap_mode="r")[0])
    with contextlib.ExitStack() as stack:
        engines = [stack.enter_context(Classifier(file)).engine for file in runnable]
        latencies_ms = median_latencies(engines, image_hwc_rgb_u8)
    for file, latency_ms in zip(runnable, latencies_ms, strict=True):
        seen = children.read_message(written[file], children.Observation)
        children.write_message(written[file], children.Observation(seen.engine, seen.input, seen.output, latency_ms))


def median_latencies(engines: Sequence[Engine], image_hwc_rgb_u8: NDArray[np.uint8]) -> list[float]:
    """Measure the median latency of single invocations of each engine, in milliseconds.

    In each turn an engine runs ten timed invocations after an untimed one that brings its weights back into the cache,
    as on a device that runs one model. It has 20 turns, or fewer once its timed invocations took 0.4 s. All engines
    have one thread, and take the same image, uint8 [H, W, 3].
    """
    taken_ns: list[list[int]] = [[] for _ in engines]
    for turn in range(_MOST_TURNS):
        # Every other round runs backwards, so that no engine always follows the same one.
        for index in range(len(engines))[:: 1 if turn % 2 == 0 else -1]:
            _take_turn(engines[index], image_hwc_rgb_u8, taken_ns[index])
    return [statistics.median(values) / _NS_PER_MS for values in taken_ns]


def _take_turn(engine: Engine, image_hwc_rgb_u8: NDArray[np.uint8], taken_ns: list[int]) -> None:
    """Append the latencies of one turn, in nanoseconds, as far as the engine's time budget allows."""
    if sum(taken_ns) >= _BUDGET_NS:
        return
    tensor = image_hwc_rgb_u8[np.newaxis].astype(engine.input.dtype, copy=False)
    engine.invoke(tensor)
    for _ in range(_INVOKES_A_TURN):
        if len(taken_ns) >= _FEWEST_INVOKES and sum(taken_ns) >= _BUDGET_NS:
            break
        started = time.perf_counter_ns()
        engine.invoke(tensor)
        taken_ns.append(time.perf_counter_ns() - started)


if __name__ == "__main__":
    main()
