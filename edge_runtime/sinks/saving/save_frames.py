"""Frames of a camera as pictures, for looking at and for training again."""

from __future__ import annotations

import enum
import math
import time
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from edge_runtime.results import Classified, Result, to_record
from edge_runtime.sinks.base import MonitoredSink, Sink
from edge_runtime.sinks.saving.folder_names import FolderNames
from edge_runtime.sinks.saving.frame_folder import FrameFolder
from edge_runtime.sinks.saving.jpeg_note import with_note

if TYPE_CHECKING:
    from edge_runtime.preprocess import ImageU8

QUOTA_BYTES = 1_000_000_000
MIN_FREE_BYTES = 100_000_000
UNSURE_PREFIX = "unsure-"
_JPEG_QUALITY = 90
_MAX_FRAME_NUMBER = 10**12 - 1


class Choice(str, enum.Enum):
    """Which frames are saved."""

    EVENT = "event"  # those that begin something
    UNCERTAIN = "uncertain"  # those of a low score, to be labelled and trained on


class FrameChooser:
    """Says which results' frames are to be saved, with a pause after each, in the source's own time.

    Args:
        choices: Events, uncertain frames, or both. Each kind has its own pause, so that doubtful frames never keep an
            event from being saved.
        threshold: The score 0..1 under which a frame is uncertain; see `is_uncertain`.
        min_interval_s: Seconds from one saved frame of a kind to the next.
    """

    def __init__(self, choices: Collection[Choice], *, threshold: float, min_interval_s: float) -> None:
        self._choices, self._threshold, self._min_interval_s = frozenset(choices), threshold, min_interval_s
        self._last_s = dict.fromkeys(Choice, -math.inf)

    def __call__(self, result: Result) -> bool:
        """Whether to save this one; the pause begins if so."""
        if not isinstance(result, Classified):
            return False
        now_s = result.frame.time_s if result.frame else time.monotonic()
        due = [kind for kind in self._kinds(result) & self._choices if self._is_due(now_s, self._last_s[kind])]
        self._last_s.update(dict.fromkeys(due, now_s))
        return bool(due)

    def _is_due(self, now_s: float, last_s: float) -> bool:
        # A video that starts again goes back in time.
        return now_s < last_s or now_s - last_s >= self._min_interval_s

    def _kinds(self, result: Classified) -> set[Choice]:
        decision = result.decision
        kinds = {Choice.EVENT} if decision and decision.event and decision.label is not None else set()
        return kinds | ({Choice.UNCERTAIN} if is_uncertain(result, self._threshold) else set())


def is_uncertain(result: Classified, threshold: float) -> bool:
    """Whether an answer is rejected, has a score under the threshold, or is one of frames that do not agree."""
    decision = result.decision
    undecided = decision is not None and decision.label is None and decision.score < threshold
    return result.rejected or result.top[0].score < threshold or undecided


class SaveFrames(Sink):
    """Saves each frame that it is given as a JPEG picture of quality 90: ``ROOT/<label>/<UTC time>-<frame>.jpg``.

    The label is the answer's. A frame that is uncertain, or whose answer is not what the decision says, goes to
    ``ROOT/unsure-<label>`` instead, so that a guess is never taken for a label: look at it and move it to its class.
    The tree is a folder of class folders as ``edge-train data`` takes it. The whole record is in the picture's
    comment; `edge_runtime.sinks.saving.jpeg_note.note_of` reads it. For the quota and what is never removed, see
    `edge_runtime.sinks.saving.frame_folder.FrameFolder`.

    Args:
        root: The folder.
        labels: All labels of the model, for distinct names of folders.
        threshold: The score 0..1 under which a frame is uncertain.
        quota_bytes: What saved pictures may take together; the oldest are removed.
        min_free_bytes: Disk that is left free.

    Raises:
        OutputError: The folder cannot be written, or another program saves into it.
    """

    def __init__(
        self,
        root: Path,
        labels: Iterable[str] = (),
        *,
        threshold: float = 0.5,
        quota_bytes: int = QUOTA_BYTES,
        min_free_bytes: int = MIN_FREE_BYTES,
    ) -> None:
        self._names, self._threshold = FolderNames(labels), threshold
        self._folder = FrameFolder(root, quota_bytes=quota_bytes, min_free_bytes=min_free_bytes)

    def write(self, result: Result, image_hwc_rgb_u8: ImageU8 | None = None) -> None:
        """Save a frame; nothing where there is no answer or no frame.

        Raises:
            OSError: There is no room for it, or it cannot be written.
            ValueError: It cannot be encoded as JPEG.
        """
        if not isinstance(result, Classified) or image_hwc_rgb_u8 is None:
            return
        folder = self._folder_of(result)
        data = with_note(_encode(image_hwc_rgb_u8), {**to_record(result), "folder": folder})
        self._folder.save(folder, picture_stem(result), data)

    def close(self) -> None:
        """Let others save into the folder."""
        self._folder.close()

    def _folder_of(self, result: Classified) -> str:
        label, decision = result.top[0].label, result.decision
        sure = not is_uncertain(result, self._threshold) and (decision is None or decision.label == label)
        name = self._names.of(label)
        return name if sure else UNSURE_PREFIX + name


def open_save_frames(
    root: Path,
    labels: Iterable[str],
    *,
    choices: Collection[Choice],
    threshold: float = 0.5,
    min_interval_s: float = 1.0,
    quota_bytes: int = QUOTA_BYTES,
    min_free_bytes: int = MIN_FREE_BYTES,
) -> MonitoredSink:
    """Make the sink of ``--save-frames``: `FrameChooser` before `SaveFrames`, in a thread of its own.

    Raises:
        OutputError: The folder cannot be written, or another program saves into it.
    """
    from edge_runtime.sinks.background import BackgroundSink

    sink = SaveFrames(root, labels, threshold=threshold, quota_bytes=quota_bytes, min_free_bytes=min_free_bytes)
    chooser = FrameChooser(choices, threshold=threshold, min_interval_s=min_interval_s)
    return BackgroundSink(sink, "save-frames", wants=chooser, with_image=True)


def picture_stem(result: Classified) -> str:
    """Name of an answer's picture: UTC time of its frame (of now, for a video file) and its number."""
    frame = result.frame
    unix_s = frame.captured_at if frame and frame.captured_at is not None else time.time()
    unix_ms = max(0, math.floor(unix_s * 1000))
    moment = time.strftime("%Y%m%dT%H%M%S", time.gmtime(unix_ms // 1000))
    return f"{moment}.{unix_ms % 1000:03}Z-{min(frame.number if frame else 0, _MAX_FRAME_NUMBER):06}"


def _encode(image_hwc_rgb_u8: ImageU8) -> bytes:
    import cv2

    try:
        image_hwc_bgr_u8 = cv2.cvtColor(image_hwc_rgb_u8, cv2.COLOR_RGB2BGR)
        encoded, data = cv2.imencode(".jpg", image_hwc_bgr_u8, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    except cv2.error as error:
        raise ValueError(f"a frame of shape {image_hwc_rgb_u8.shape} cannot be encoded ({error.err})") from error
    if not encoded:
        raise ValueError(f"a frame of shape {image_hwc_rgb_u8.shape} cannot be encoded")
    return data.tobytes()
