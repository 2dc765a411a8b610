"""Offline and camera scenarios inside the artifact child: a folder at full speed, a paced camera."""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.measuring.child import read_paths
from benchmarks.measuring.protocol import AskCamera, AskOffline, CameraTrace, OfflineRun
from edge_runtime.errors import EngineError, ImageError
from edge_runtime.results import Classified, Failed, Result, StateChange
from edge_runtime.sources.base import Frame, FrameSource

if TYPE_CHECKING:
    from edge_runtime.classifier import Classifier
    from edge_runtime.preprocess import ImageU8

FRAME_SIZE_WH = (1280, 720)
_TOP_K = 3
_MAX_IMAGES = 10  # 28 MB; more would not change the work of the model
_ROUNDING = 1e-9  # 0.1 s at 30 frames per second are 3 frames, also in binary


class _ClassifierPool:
    """Opens the workers' classifiers, hands out the images, and counts both.

    A worker takes its next image when it has finished the one before, so between two moments as many are taken as are
    finished, plus or minus one in work. Results tell less: they come in the order of the images, so a slow one holds
    back those of the other workers, and its end releases several that finished earlier.
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

    def images(self) -> Iterator[Path]:
        """Repeat the images until the run is over; never two threads at once."""
        for path in itertools.cycle(self._paths):
            if self.is_over:
                return
            with self._lock:
                self.taken += 1
            yield path


def run_offline(request: AskOffline, open_classifier: Callable[[], Classifier]) -> OfflineRun:
    """Classify files for a while; time starts when every worker has opened its interpreter and caught up.

    An image that cannot be classified takes its time and does not count. Each worker closes the classifier that it
    opens.

    Raises:
        EdgeKitError: The model cannot be opened, or not one of the images can be classified.
    """
    import cv2

    from edge_runtime.pipeline.folder import classify_files

    paths = read_paths(request.paths)
    pool = _ClassifierPool(paths, open_classifier, request.workers)
    # Several workers set OpenCV to one thread, which the next measurement in this process would keep.
    threads = cv2.getNumThreads()
    results = classify_files(pool.images(), pool.open(), pool.open, workers=request.workers, top_k=_TOP_K)
    try:
        # Skip the images taken before every worker was open, and one more, so that a single worker is warm too.
        for number, _ in enumerate(results):
            if pool.taken_early is not None and number >= pool.taken_early:
                break
        return _count(results, pool, request.duration_s, len(paths))
    finally:
        pool.is_over = True
        results.close()
        cv2.setNumThreads(threads)


def _count(results: Iterator[Result], pool: _ClassifierPool, duration_s: float, images: int) -> OfflineRun:
    before, wall_ns, cpu_ns = pool.taken, time.perf_counter_ns(), time.process_time_ns()
    classified = failed = 0
    for result in results:
        classified += isinstance(result, Classified)
        failed += isinstance(result, Failed)
        spent_ns = time.perf_counter_ns() - wall_ns
        if spent_ns < duration_s * 1e9:
            continue
        if classified:
            return OfflineRun(max(1, pool.taken - before - failed), spent_ns, time.process_time_ns() - cpu_ns)
        if isinstance(result, Failed) and failed >= images:
            raise EngineError(f"not one of {images} images could be classified ({result.source}: {result.message})")
    raise EngineError("the folder pipeline ended by itself")


class PacedSource(FrameSource):
    """A camera of a fixed rate that always gives its newest frame, as a live source does.

    Frame n is taken at ``n / fps`` seconds, and its age counts from then on; a loop that comes late gets an older
    frame and never sees those before it. The clock alone tells the newest frame: a thread that fills a slot would wait
    for the interpreter lock and stamp late frames as fresh. Capturing and decoding are not part of it; a camera does
    these in another process. At least one image, uint8 [height, width, 3] RGB; they are shown in turn, for ``frames``
    frames in all.
    """

    name = "paced"
    live = True

    def __init__(self, images: Sequence[ImageU8], fps: float, frames: int) -> None:
        self._images, self._fps, self._count = images, fps, frames

    def frames(self, until_s: float | None = None) -> Iterator[Frame | StateChange]:
        """Yield the newest frame each time; see `FrameSource.frames`."""
        start_s, start_at, due = time.perf_counter(), time.time(), 0
        while due < self._count:
            due_s = start_s + due / self._fps
            if until_s is not None and due_s >= until_s:
                return
            time.sleep(max(0.0, due_s - time.perf_counter()))
            number = max(due, int((time.perf_counter() - start_s) * self._fps + _ROUNDING))
            if number >= self._count:
                return
            time_s = number / self._fps
            yield Frame(
                number, time_s, start_at + time_s, start_s + time_s, 0.0, self._images[number % len(self._images)]
            )
            due = number + 1

    def close(self) -> None:
        """Do nothing: no resource is open."""


def run_camera(request: AskCamera, classifier: Classifier) -> CameraTrace:
    """Follow a paced camera through the camera loop, with images cut to frames of 1280x720.

    The classifier stays open; it answers one unmeasured frame first to be warm for the size. Raises EngineError if no
    image can be shown, or the runtime failed.
    """
    from edge_runtime.pipeline.camera import classify_frames

    images = load_frames(read_paths(request.paths))
    classifier.probabilities(classifier.prepare(images[0]))
    frames = frames_due(request.duration_s, request.fps)
    source = PacedSource(images, request.fps, frames)
    results = [result for result, _ in classify_frames(source, classifier)]
    stamps = [result.frame for result in results if isinstance(result, Classified) and result.frame]
    return CameraTrace(*FRAME_SIZE_WH, frames, tuple(round(stamp.age_ms * 1e6) for stamp in stamps))


def frames_due(duration_s: float, fps: float) -> int:
    """Count the frames taken during a duration, the first at 0 s; at least 1."""
    return max(1, math.ceil(duration_s * fps - _ROUNDING))


def load_frames(paths: Sequence[Path], size_wh: tuple[int, int] = FRAME_SIZE_WH) -> list[ImageU8]:
    """Decode the first few readable images and bring all to one size, without distortion; EngineError if none is."""
    from edge_runtime.preprocess import load_image

    images: list[ImageU8] = []
    reason = "the list is empty"
    for path in paths:
        try:
            images.append(cover(load_image(path), size_wh))
        except ImageError as error:
            reason = f"{path}: {error}"
        if len(images) == _MAX_IMAGES:
            break
    if not images:
        raise EngineError(f"no image can be shown as a camera frame ({reason})")
    return images


def cover(image_hwc_rgb_u8: ImageU8, size_wh: tuple[int, int]) -> ImageU8:
    """Crop the center to the shape of the frame and resize it: uint8 [height, width, 3] RGB."""
    import cv2
    import numpy as np

    height, width = image_hwc_rgb_u8.shape[:2]
    # Crop first: resizing an image of 1 x 10,000 pixels first would take 50 GB.
    cut_w = max(1, min(width, height * size_wh[0] // size_wh[1]))
    cut_h = max(1, min(height, width * size_wh[1] // size_wh[0]))
    left, top = (width - cut_w) // 2, (height - cut_h) // 2
    cut = image_hwc_rgb_u8[top : top + cut_h, left : left + cut_w]
    method = cv2.INTER_AREA if cut_w > size_wh[0] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(cut, size_wh, interpolation=method), np.uint8)
