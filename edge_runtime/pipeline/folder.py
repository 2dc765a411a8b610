"""Classify many image files: one thread a core, each with its own single-threaded interpreter.

Decoding, resizing and inference release the interpreter lock, so threads suffice. Measured: this reaches 96 % of what
the CPU time allows, a plain loop over a two-thread interpreter 75 %.

Each thread takes its next image itself, so the writer of results never hands out work, and an input that blocks (a list
that is still being written, a watched folder) does not delay finished results.

JPEGs are decoded at full scale. libjpeg could decode at 1/2 or 1/4 and save time on large photos, but the pixels would
differ from the contract's full decode and area shrink, on which the model was trained: over 97 photos, at 96 px, 1/2
scale changed 79 % of the values, by 5 grey levels on average.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

from edge_runtime.errors import DataError, EngineError
from edge_runtime.image_files import BIN_SUFFIX
from edge_runtime.preprocess import ImageU8, load_image, load_prepared
from edge_runtime.results import Classified, Failed, LatencyMs, Result

if TYPE_CHECKING:
    from edge_runtime.classifier import Classifier
    from edge_runtime.results import Prediction


def classify_file(classifier: Classifier, path: Path, top_k: int) -> Result:
    """Classify one image file; a problem with the file becomes a `Failed`, never an exception."""
    try:
        started_s = time.perf_counter()
        if path.suffix.lower() == BIN_SUFFIX:
            # Already the model's input: nothing is left to crop or resize.
            prepared, preprocess_ms = load_prepared(path, classifier.input_spec), 0.0
            decode_ms = (time.perf_counter() - started_s) * 1e3
            top, invoke_ms = _classify_prepared(classifier, prepared, top_k)
        else:
            image_hwc_rgb_u8 = load_image(path)
            decode_ms = (time.perf_counter() - started_s) * 1e3
            top, preprocess_ms, invoke_ms = classify_image(classifier, image_hwc_rgb_u8, top_k)
    except (DataError, EngineError) as error:
        return Failed.of(str(path), error)
    latency_ms = LatencyMs(decode_ms, preprocess_ms, invoke_ms)
    return Classified(str(path), top, latency_ms, rejected=classifier.is_rejected(top))


def classify_image(
    classifier: Classifier, image_hwc_rgb_u8: ImageU8, top_k: int
) -> tuple[tuple[Prediction, ...], float, float]:
    """Classify uint8 [height, width, 3] RGB; return predictions, preprocess_ms, and invoke_ms with ranking."""
    started_s = time.perf_counter()
    prepared = classifier.prepare(image_hwc_rgb_u8)
    preprocess_ms = (time.perf_counter() - started_s) * 1e3
    top, invoke_ms = _classify_prepared(classifier, prepared, top_k)
    return top, preprocess_ms, invoke_ms


def _classify_prepared(
    classifier: Classifier, prepared_hwc_rgb_u8: ImageU8, top_k: int
) -> tuple[tuple[Prediction, ...], float]:
    """Classify uint8 [H, W, 3] RGB of the model's size; return predictions and invoke_ms."""
    started_s = time.perf_counter()
    top = tuple(classifier.rank(classifier.probabilities(prepared_hwc_rgb_u8), top_k))
    return top, (time.perf_counter() - started_s) * 1e3


WINDOW_PER_WORKER = 16
"""Limit on images per worker that are in progress or wait to be yielded in order, which bounds memory."""

CLOSE_DEADLINE_S = 10.0


def classify_files(
    inputs: Iterable[Path | Failed],
    classifier: Classifier,
    open_another: Callable[[], Classifier],
    *,
    workers: int,
    top_k: int,
) -> Generator[Result, None, None]:
    """Classify images and yield the results in the order of the inputs; close the generator to stop early.

    Each worker has its own interpreter with its own packed float weights (XNNPACK): a large float32 model takes its
    size again for each worker, int8 weights a quarter of that.

    Args:
        inputs: Image files, taken lazily, by one thread at a time but not always the same; a `Failed` among them is
            passed through in its place. Closing does not interrupt an iterator that waits: end it first.
        classifier: Classifier of the first worker; closed at the end.
        open_another: Function that opens a classifier for each further worker that finds work.
        workers: Threads that each decode and classify, at least 1; with 1 the caller's thread is used.
        top_k: Number of predictions for each image.

    Raises:
        EdgeKitError: The model cannot be opened again. An unusable image is a `Failed` instead.
    """
    if workers <= 1:
        with classifier:
            for item in inputs:
                yield item if isinstance(item, Failed) else classify_file(classifier, item, top_k)
        return
    import cv2

    # OpenCV's own threads would compete with ours for the same cores.
    cv2.setNumThreads(1)
    crew = _Crew(iter(inputs), classifier, open_another, workers, top_k)
    try:
        yield from crew.results()
    finally:
        crew.close()


class _Crew:
    """Threads that take images from one iterator; the results are put back in order."""

    def __init__(
        self,
        inputs: Iterator[Path | Failed],
        classifier: Classifier,
        open_another: Callable[[], Classifier],
        workers: int,
        top_k: int,
    ) -> None:
        self._inputs, self._open, self._top_k = inputs, open_another, top_k
        self._spare = [classifier]
        self._taking = threading.Lock()
        # A token for each place in the window. threading.Semaphore is written in Python and would be contended.
        self._room: SimpleQueue[None] = SimpleQueue()
        for _ in range(workers * WINDOW_PER_WORKER):
            self._room.put(None)
        self._taken = 0
        self._stopping = False
        # A number and its result; None at the end of a worker, or the exception that ended it.
        self._out: SimpleQueue[tuple[int, Result] | BaseException | None] = SimpleQueue()
        # Daemons: a read of a dead network drive never returns and must not block the end of the process.
        self._threads = [
            threading.Thread(target=self._work, name=f"classify {index}", daemon=True) for index in range(workers)
        ]

    def results(self) -> Iterator[Result]:
        for thread in self._threads:
            thread.start()
        early: dict[int, Result] = {}
        following, working = 0, len(self._threads)
        while working:
            arrived = self._out.get()
            if isinstance(arrived, BaseException):
                raise arrived
            if arrived is None:
                working -= 1
                continue
            early[arrived[0]] = arrived[1]
            while following in early:
                yield early.pop(following)
                following += 1
                self._room.put(None)

    def close(self) -> None:
        """Wait for images in progress, at most `CLOSE_DEADLINE_S`."""
        self._stopping = True
        deadline_s = time.monotonic() + CLOSE_DEADLINE_S
        for _ in self._threads:
            self._room.put(None)
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, deadline_s - time.monotonic()))
        while self._spare:
            self._spare.pop().close()

    def _work(self) -> None:
        classifier: Classifier | None = None
        try:
            for number, item in iter(self._take, None):
                if isinstance(item, Failed):
                    self._out.put((number, item))
                    continue
                classifier = classifier or self._classifier()
                self._out.put((number, classify_file(classifier, item, self._top_k)))
        except BaseException as error:  # noqa: BLE001  raised again in the thread that reads the results
            self._out.put(error)
        finally:
            if classifier:
                classifier.close()
            self._out.put(None)

    def _take(self) -> tuple[int, Path | Failed] | None:
        self._room.get()
        with self._taking:
            item = None if self._stopping else next(self._inputs, None)
            if item is None:
                self._stopping = True
                return None
            self._taken += 1
            return self._taken - 1, item

    def _classifier(self) -> Classifier:
        try:
            return self._spare.pop()  # atomic
        except IndexError:
            return self._open()
