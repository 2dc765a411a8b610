"""Video files, frame by frame, in order, as fast as they can be read."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from edge_runtime.errors import SourceError
from edge_runtime.sources.frames import Capture, Frame, FrameSource


class VideoFile(FrameSource):
    """A video file; every frame is given, none is skipped.

    Args:
        path: The file.

    Raises:
        SourceError: No such file, or not a video that OpenCV can read.
    """

    live = False

    def __init__(self, path: Path) -> None:
        import cv2

        self.name = str(path)
        if not path.exists():
            raise SourceError(
                f"{path}: no such video; give a file, a camera as 0 or /dev/video0, or an rtsp:// or http:// address"
            )
        if path.is_dir():
            raise SourceError(f"{path}: expected a video, got a folder; for pictures use edge-run classify")
        capture = cv2.VideoCapture(self.name)
        if not capture.isOpened():
            raise SourceError(f"{path}: is not a video that OpenCV can read, or is damaged; try it as H.264 in .mp4")
        self._capture: Capture = capture
        self._fps = capture.get(cv2.CAP_PROP_FPS)

    def frames(self) -> Iterator[Frame]:
        """Yield every frame until the end of the file; see `FrameSource.frames`."""
        from edge_runtime.preprocess import bgr_to_rgb

        number = 0
        while True:
            started_s = time.perf_counter()
            if not self._capture.grab():
                break
            ok, frame_bgr = self._capture.retrieve()
            if not ok:
                break
            image = bgr_to_rgb(frame_bgr)
            decode_ms = (time.perf_counter() - started_s) * 1e3
            yield Frame(number, self._position_s(number), None, started_s, decode_ms, image)
            number += 1
        if number == 0:
            raise SourceError(f"{self.name}: was opened, but no frame of it can be decoded; the file is damaged")

    def _position_s(self, number: int) -> float:
        import cv2

        position_ms = self._capture.get(cv2.CAP_PROP_POS_MSEC)
        if position_ms > 0 or number == 0:
            return max(0.0, position_ms / 1e3)
        # Some readers know no timestamps.
        return number / self._fps if self._fps > 0 else 0.0

    def close(self) -> None:
        """Release the file."""
        self._capture.release()
