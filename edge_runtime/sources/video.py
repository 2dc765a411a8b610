"""Video files, frame by frame, in order, as fast as they can be read."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from edge_runtime.errors import SourceError
from edge_runtime.sources.base import Capture, Frame, FrameSource
from edge_runtime.sources.capture.streams import capture_file
from edge_runtime.strict import irregularity

if TYPE_CHECKING:
    from edge_runtime.preprocess import ImageU8


class VideoFile(FrameSource):
    """Video file; no frame is skipped.

    Args:
        path: Path of the video.
        loop: True to start again at the end; numbers and times continue.

    Raises:
        SourceError: The file does not exist or is not a video that OpenCV can read.
    """

    live = False

    def __init__(self, path: Path, *, loop: bool = False) -> None:
        import cv2

        self.name = str(path)
        self._loop = loop
        if not path.exists():
            raise SourceError(
                f"{path}: no such video; give a file, a camera as 0 or /dev/video0, or an rtsp:// or http:// address"
            )
        if kind := irregularity(path):
            raise SourceError(f"{path}: expected a video, got {kind}; for images use edge-run classify")
        self._capture = self._open()
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self._period_s = 1 / fps if fps > 0 else 0.0
        self._closed = False

    def frames(self, until_s: float | None = None) -> Iterator[Frame]:
        """Yield every frame until the end of the file; see `FrameSource.frames`."""
        number, start_s, last_s = 0, 0.0, 0.0
        while True:
            in_round = 0
            for started_s, position_s, decode_ms, image in self._round(until_s):
                last_s = start_s + position_s
                yield Frame(number, last_s, None, started_s, decode_ms, image)
                number += 1
                in_round += 1
            if self._is_over(until_s) or (in_round and not self._loop):
                return
            if in_round == 0:
                raise SourceError(f"{self.name}: was opened, but no frame of it can be decoded; the file is damaged")
            self._capture.release()
            self._capture = self._open()
            start_s = last_s + self._period_s

    def close(self) -> None:
        """Release the file."""
        self._closed = True
        self._capture.release()

    def _open(self) -> Capture:
        capture = capture_file(self.name)
        if not capture.isOpened():
            raise SourceError(
                f"{self.name}: is not a video that OpenCV can read, or is damaged; try it as H.264 in .mp4"
            )
        return capture

    def _round(self, until_s: float | None) -> Iterator[tuple[float, float, float, ImageU8]]:
        """Yield (start by `time.perf_counter`, position in seconds, decode_ms, RGB frame) to the end of the file."""
        from edge_runtime.preprocess import bgr_to_rgb

        number = 0
        while not self._is_over(until_s):
            started_s = time.perf_counter()
            if not self._capture.grab():
                return
            ok, frame_bgr = self._capture.retrieve()
            if not ok:
                return
            image = bgr_to_rgb(frame_bgr)
            yield started_s, self._position_s(number), (time.perf_counter() - started_s) * 1e3, image
            number += 1

    def _is_over(self, until_s: float | None) -> bool:
        return self._closed or (until_s is not None and time.perf_counter() >= until_s)

    def _position_s(self, number: int) -> float:
        import cv2

        position_ms = self._capture.get(cv2.CAP_PROP_POS_MSEC)
        # Some readers provide no timestamps.
        return position_ms / 1e3 if position_ms > 0 else number * self._period_s
