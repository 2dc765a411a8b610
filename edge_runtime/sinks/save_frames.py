"""Save chosen camera frames as JPEG images, in folders named by their labels."""

from __future__ import annotations

import enum
import hashlib
import math
import time
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from edge_runtime.contract import look_alike_key, normalize_label
from edge_runtime.results import Classified, Result, to_record
from edge_runtime.sinks.background import BackgroundSink
from edge_runtime.sinks.base import MonitoredSink, Sink, capture_time, encode_jpeg
from edge_runtime.sinks.frame_folder import FrameFolder, add_comment

if TYPE_CHECKING:
    from edge_runtime.preprocess import ImageU8


QUOTA_BYTES = 1_000_000_000
MIN_FREE_BYTES = 100_000_000
UNSURE_PREFIX = "unsure-"
_JPEG_QUALITY = 90
_MAX_FRAME_NUMBER = 10**12 - 1
# Not allowed by Windows and FAT, for SD cards and shares; % starts an escape.
_UNSAFE = frozenset('%/\\<>:"|?*')
_RESERVED = frozenset(
    {"con", "prn", "aux", "nul", *(f"{name}{digit}" for name in ("com", "lpt") for digit in range(10)), "__macosx"}
)
_JOINERS = "\u200c\u200d"
_MAX_NAME_BYTES = 200  # of 255, which leaves room for a prefix
_HASH_DIGITS = 12


def folder_name(label: str) -> str:
    """Make the folder name of a label: the label with unsafe characters percent-encoded (``%2F`` for ``/``).

    Names of more than 200 bytes are cut and end in ``~`` and part of their SHA-256; `label_of` decodes all others.
    """
    label = normalize_label(label)
    safe = (char not in _UNSAFE and (char.isprintable() or char in _JOINERS) for char in label)
    name = "".join(char if is_safe else _escaped(char) for char, is_safe in zip(label, safe, strict=True))
    if name[:1] in (".", " ") or name.partition(".")[0].rstrip().lower() in _RESERVED:
        name = _escaped(label[0]) + name[1:]
    if name[-1:] in (".", " "):
        name = name[:-1] + _escaped(label[-1])
    ambiguous = name != label and (normalize_label(name) != name or _has_joiner(label))
    if ambiguous or not label.strip(_JOINERS):
        # An accent after an escape would combine with its last letter, and a joiner would be invisible there.
        name = _escaped(label)
    return _shortened(name or "%")


def label_of(name: str) -> str:
    """Decode the label, in Unicode normal form NFC, from a name of `folder_name` that was not cut.

    Raises:
        ValueError: The name is not one of `folder_name`.
    """
    return "" if name == "%" else unquote(name, errors="surrogatepass")


class FolderNames:
    """Distinct folder names for the labels of a model, also if two differ in case only (ImageNet's cardigan, Cardigan).

    Args:
        labels: All labels of the model; the name of any other label may look like one of theirs.
    """

    def __init__(self, labels: Iterable[str] = ()) -> None:
        self._names: dict[str, str] = {}
        self._taken: dict[str, str] = {}
        for label in labels:
            self.of(label)

    def of(self, label: str) -> str:
        """Return the folder name of a label, which is always the same."""
        if label not in self._names:
            plain, normal = folder_name(label), normalize_label(label)
            # The first letter as an escape, unless an accent or a joiner follows it.
            marked = _escaped(normal[:1]) + plain[1:]
            usable = plain == normal and normalize_label(marked) == marked and not _has_joiner(normal)
            free = (
                name
                for name in ([plain, marked] if usable else [plain])
                if self._taken.setdefault(look_alike_key(name), normal) == normal
            )
            self._names[label] = next(free, _shortened(_escaped(normal)))
        return self._names[label]


def _escaped(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode("utf-8", errors="surrogatepass"))


def _has_joiner(label: str) -> bool:
    return any(joiner in label for joiner in _JOINERS)


def _shortened(name: str) -> str:
    data = name.encode()
    if len(data) <= _MAX_NAME_BYTES:
        return name
    head = data[: _MAX_NAME_BYTES - _HASH_DIGITS - 1].decode(errors="ignore")
    return f"{head}~{hashlib.sha256(data).hexdigest()[:_HASH_DIGITS]}"


class SaveChoice(str, enum.Enum):
    """Kinds of frames to save."""

    EVENT = "event"  # start of a new decision
    UNCERTAIN = "uncertain"  # low score, to be labelled and trained on


class FrameChooser:
    """A filter of results whose frames are saved, with a minimum interval in the source's own time.

    Args:
        choices: Events, uncertain frames, or both. Each kind has its own interval, so that uncertain frames do not
            prevent an event from being saved.
        threshold: Score 0..1 below which a frame is uncertain; see `is_uncertain`.
        min_interval_s: Shortest time between two saved frames of a kind, in seconds.
    """

    def __init__(self, choices: Collection[SaveChoice], *, threshold: float, min_interval_s: float) -> None:
        self._choices, self._threshold, self._min_interval_s = frozenset(choices), threshold, min_interval_s
        self._last_s = dict.fromkeys(SaveChoice, -math.inf)

    def __call__(self, result: Result) -> bool:
        """Tell whether to save the frame of this result; if so, its interval starts."""
        if not isinstance(result, Classified):
            return False
        now_s = result.frame.time_s if result.frame else time.monotonic()
        decision = result.decision
        found = {
            SaveChoice.EVENT: decision is not None and decision.event and decision.label is not None,
            SaveChoice.UNCERTAIN: is_uncertain(result, self._threshold),
        }
        # Time goes back when a video starts again.
        since_s = {kind: now_s - last_s if now_s >= last_s else math.inf for kind, last_s in self._last_s.items()}
        due = [kind for kind in self._choices if found[kind] and since_s[kind] >= self._min_interval_s]
        self._last_s.update(dict.fromkeys(due, now_s))
        return bool(due)


def is_uncertain(result: Classified, threshold: float) -> bool:
    """Tell whether a result is rejected, has a score below the threshold, or has no agreed label."""
    decision = result.decision
    undecided = decision is not None and decision.label is None and decision.score < threshold
    return result.rejected or result.top[0].score < threshold or undecided


class SaveFrames(Sink):
    """JPEG images of quality 90, ``ROOT/<label>/<UTC time>-<frame>.jpg``, one for each frame that is written.

    A frame that is uncertain, or whose label differs from the decision's, goes to ``ROOT/unsure-<label>`` instead, so
    that a guess is not mistaken for a label: check it and move it to its class folder. ``edge-train data`` takes the
    tree as it is. The whole record is in the image's comment; `edge_runtime.sinks.frame_folder.read_comment` reads it.
    For the quota see `edge_runtime.sinks.frame_folder.FrameFolder`.

    Args:
        root: Folder to save into.
        labels: All labels of the model, for distinct folder names.
        threshold: Score 0..1 below which a frame is uncertain.
        quota_bytes: Largest total size of saved images; the oldest are removed.
        min_free_bytes: Disk space to leave free.

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
        """Save the frame of a result; do nothing without predictions or a frame.

        Raises:
            OSError: The image does not fit, or cannot be written.
            ValueError: The frame cannot be encoded as JPEG.
        """
        if not isinstance(result, Classified) or image_hwc_rgb_u8 is None:
            return
        label, decision = result.top[0].label, result.decision
        sure = not is_uncertain(result, self._threshold) and (decision is None or decision.label == label)
        folder = self._names.of(label) if sure else UNSURE_PREFIX + self._names.of(label)
        data = add_comment(encode_jpeg(image_hwc_rgb_u8, _JPEG_QUALITY), {**to_record(result), "folder": folder})
        self._folder.save(folder, image_stem(result), data)

    def close(self) -> None:
        """Release the folder."""
        self._folder.close()


def open_save_frames(
    root: Path,
    labels: Iterable[str],
    *,
    choices: Collection[SaveChoice],
    threshold: float = 0.5,
    min_interval_s: float = 1.0,
    quota_bytes: int = QUOTA_BYTES,
    min_free_bytes: int = MIN_FREE_BYTES,
) -> MonitoredSink:
    """Make the sink of ``--save-frames``: `SaveFrames` behind a `FrameChooser`, in its own thread.

    Raises:
        OutputError: The folder cannot be written, or another program saves into it.
    """
    sink = SaveFrames(root, labels, threshold=threshold, quota_bytes=quota_bytes, min_free_bytes=min_free_bytes)
    chooser = FrameChooser(choices, threshold=threshold, min_interval_s=min_interval_s)
    return BackgroundSink(sink, "save-frames", wants=chooser, with_image=True)


def image_stem(result: Classified) -> str:
    """Make the file name of a frame, without suffix: its UTC time (the current time for a video file) and number."""
    frame = result.frame
    unix_ms = max(0, math.floor(capture_time(result) * 1000))
    moment = time.strftime("%Y%m%dT%H%M%S", time.gmtime(unix_ms // 1000))
    return f"{moment}.{unix_ms % 1000:03}Z-{min(frame.number if frame else 0, _MAX_FRAME_NUMBER):06}"
