"""Pictures of the worst flips, small enough that the page can be mailed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.records.accuracy import Flip
from benchmarks.records.report import Report
from benchmarks.report.table import measured
from benchmarks.report.wording import one_line
from edge_runtime.contract import InputSpec
from edge_runtime.errors import EdgeKitError
from edge_runtime.preprocess import load_image, load_prepared
from edge_runtime.raw_pictures import BIN_SUFFIX
from edge_runtime.reporting.pictures import thumbnail_url

MAX_TILES = 36
# All pictures of a page together, so that it can be mailed.
_MAX_CHARACTERS = 1_500_000


@dataclass(frozen=True)
class Changed:
    """One model's answer to a flipped picture; ``score`` is 0..1."""

    subject: str
    answer: str
    score: float


@dataclass(frozen=True)
class Tile:
    """One flipped picture.

    Attributes:
        jpeg_url: The picture, embedded; empty where it cannot be shown.
        reason: Why it cannot be shown; empty where it can.
        name: Its folder and file name.
        flip: Its true label and what Keras says.
        changed: What the models say that do not agree with Keras, as far as the report names their flips.
    """

    jpeg_url: str
    reason: str
    name: str
    flip: Flip
    changed: tuple[Changed, ...]

    @property
    def is_wrong(self) -> bool:
        """Whether one of the changed answers is wrong."""
        return any(item.answer != self.flip.label for item in self.changed)


def read_tiles(report: Report, spec: InputSpec | None = None) -> tuple[Tile, ...]:
    """The worst flips of all models, at most `MAX_TILES`; the models take turns, so that no one fills the page alone.

    Args:
        report: Names the files, which are read again.
        spec: Geometry of the model, needed for pictures that are nothing but the bytes of an input.
    """
    changed: dict[str, list[Changed]] = {}
    first: dict[str, Flip] = {}
    for subject, flip in _in_turns(report):
        first.setdefault(flip.file, flip)
        changed.setdefault(flip.file, []).append(Changed(subject, flip.answer, flip.score))
    tiles, room = [], _MAX_CHARACTERS
    for file, flip in list(first.items())[:MAX_TILES]:
        url, reason = _picture_url(Path(file), spec)
        room -= len(url)
        if room < 0:
            url, reason = "", "left out, because the page would become too large"
        name = one_line("/".join(Path(file).parts[-2:]))
        tiles.append(Tile(url, reason, name, flip, tuple(changed[file])))
    return tuple(tiles)


def _in_turns(report: Report) -> Iterator[tuple[str, Flip]]:
    """The worst flip of each model, then the second of each, and so on."""
    flips = [
        (subject.name, figures.against_keras.flips) for subject, figures in measured(report) if figures.against_keras
    ]
    for rank in range(max((len(own) for _, own in flips), default=0)):
        for name, own in flips:
            if rank < len(own):
                yield name, own[rank]


def _picture_url(file: Path, spec: InputSpec | None) -> tuple[str, str]:
    """The small picture, or why there is none."""
    try:
        if file.suffix.lower() == BIN_SUFFIX and spec is not None:
            return thumbnail_url(load_prepared(file, spec)), ""
        return thumbnail_url(load_image(file)), ""
    except EdgeKitError as error:
        # The name is beside it already.
        return "", one_line(str(error).removeprefix(f"{file}: "))
