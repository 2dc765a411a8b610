"""The offline scenario, in a measuring child: picture files at full speed, as ``edge-run classify`` does a folder."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.measuring.protocol import AskOffline, OfflineRun
from benchmarks.measuring.timing import read_paths
from edge_runtime.errors import EngineError
from edge_runtime.results import Classified, Failed, Result

if TYPE_CHECKING:
    from edge_runtime.classifier import Classifier

_TOP_K = 3


class _Crowd:
    """Counts the workers' interpreters and the pictures that they take.

    A worker takes its next picture when it has finished the one before, so between two moments as many are taken as are
    finished, give or take one in work. Results tell less: they come in the order of the pictures, so a slow one holds
    back those of the other workers, and its end lets out a crowd that was not finished in that moment.
    """

    def __init__(self, paths: Sequence[Path], open_classifier: Callable[[], Classifier], workers: int) -> None:
        self._paths, self._open, self._workers = paths, open_classifier, workers
        self._lock = threading.Lock()
        self._opened = self.taken = 0
        self.is_over = False
        self.taken_early: int | None = None

    def open(self) -> Classifier:
        """Open one more; called by several threads at once."""
        classifier = self._open()
        with self._lock:
            self._opened += 1
            if self._opened == self._workers:
                self.taken_early = self.taken
        return classifier

    def pictures(self) -> Iterator[Path]:
        """The pictures, again and again until it is over; never two threads at once."""
        for path in itertools.cycle(self._paths):
            if self.is_over:
                return
            with self._lock:
                self.taken += 1
            yield path


def run_offline(request: AskOffline, open_classifier: Callable[[], Classifier]) -> OfflineRun:
    """Classify files for a while; time begins when every worker has opened its interpreter and caught up.

    A picture that cannot be classified takes its time and does not count.

    Args:
        request: What to do.
        open_classifier: Opens one for each worker, which closes it.

    Raises:
        EngineError: Not one of the pictures could be classified.
        EdgeKitError: The model cannot be opened.
    """
    import cv2

    from edge_runtime.pipeline.folder import classify_files

    paths = read_paths(request.pictures)
    crowd = _Crowd(paths, open_classifier, request.workers)
    # Several workers set OpenCV to one thread, which what is measured next in this process would keep.
    threads = cv2.getNumThreads()
    results = classify_files(crowd.pictures(), crowd.open(), crowd.open, workers=request.workers, top_k=_TOP_K)
    try:
        _skip_early(results, crowd)
        return _count(results, crowd, request.duration_s, len(paths))
    finally:
        crowd.is_over = True
        results.close()
        cv2.setNumThreads(threads)


def _skip_early(results: Iterator[Result], crowd: _Crowd) -> None:
    """Let pass what was taken before every worker was there, and one more, so that a lone worker is warm too."""
    for number, _ in enumerate(results):
        if crowd.taken_early is not None and number >= crowd.taken_early:
            return


def _count(results: Iterator[Result], crowd: _Crowd, duration_s: float, pictures: int) -> OfflineRun:
    before, wall_ns, cpu_ns = crowd.taken, time.perf_counter_ns(), time.process_time_ns()
    classified = failed = 0
    for result in results:
        classified += isinstance(result, Classified)
        failed += isinstance(result, Failed)
        spent_ns = time.perf_counter_ns() - wall_ns
        if spent_ns < duration_s * 1e9:
            continue
        if classified:
            return OfflineRun(max(1, crowd.taken - before - failed), spent_ns, time.process_time_ns() - cpu_ns)
        if isinstance(result, Failed) and failed >= pictures:
            raise EngineError(f"not one of {pictures} pictures could be classified ({result.source}: {result.message})")
    raise EngineError("the folder pipeline ended by itself")
