"""Findings of an audit: kinds and severities."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from edge_runtime.workstation.datasets.samples import Sample


class Severity(str, enum.Enum):
    """Whether files are lost to training."""

    ERROR = "error"  # some or all of the files are left out
    WARNING = "warning"  # all are kept


class Kind(str, enum.Enum):
    """What is wrong, in the order in which a report tells it."""

    TWO_CLASSES = "two-classes"
    LEAKAGE = "leakage"
    UNREADABLE = "unreadable"
    TRUNCATED = "truncated"
    NOT_AN_IMAGE = "not-a-picture"
    ALIKE = "alike"
    UNBALANCED = "unbalanced"
    FEW = "few"
    DUPLICATE = "duplicate"
    NEAR_DUPLICATE = "near-duplicate"
    WRONG_SUFFIX = "wrong-suffix"
    TINY = "tiny"
    HUGE = "huge"

    @property
    def heading(self) -> str:
        """Heading for people."""
        return _TITLES[self]

    @property
    def advice(self) -> str:
        """One sentence: what edge-train does about it, and what a person may want to do."""
        return _ADVICE[self]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with some files, or with the set as a whole.

    Attributes:
        kind: What.
        message: One sentence, without the files' names.
        samples: The files; a file that is no image by its name has an empty label. Empty for the set as a whole.
        severity: Whether files are left out because of it.
    """

    kind: Kind
    message: str
    samples: tuple[Sample, ...]
    severity: Severity


@dataclass(frozen=True)
class LeftOut:
    """A file that is not used, and the reason."""

    sample: Sample
    reason: str


_TITLES = {
    Kind.TWO_CLASSES: "One image in two classes",
    Kind.LEAKAGE: "One image in two parts of the set",
    Kind.UNREADABLE: "Unreadable files",
    Kind.TRUNCATED: "Truncated files",
    Kind.NOT_AN_IMAGE: "Files that are no images",
    Kind.ALIKE: "Images too much alike",
    Kind.UNBALANCED: "Unbalanced classes",
    Kind.FEW: "Few images",
    Kind.DUPLICATE: "Copies within a class",
    Kind.NEAR_DUPLICATE: "Near copies within a class",
    Kind.WRONG_SUFFIX: "Wrong file name endings",
    Kind.TINY: "Tiny images",
    Kind.HUGE: "Huge images",
}
_ADVICE = {
    Kind.TWO_CLASSES: "One of the labels is wrong, so all are left out: delete the wrong ones.",
    Kind.LEAKAGE: "A test image that was trained on measures nothing: it stays in the part held out furthest.",
    Kind.UNREADABLE: "Left out: replace or delete them.",
    Kind.TRUNCATED: "Left out: fetch them again, or delete them.",
    Kind.NOT_AN_IMAGE: "Left out: they do no harm.",
    Kind.ALIKE: "Kept: if they come from one camera or video, part the set by recording yourself.",
    Kind.UNBALANCED: "Kept: add images to the small classes, and do not judge by accuracy alone.",
    Kind.FEW: "Kept: a figure measured on so few images has a wide interval.",
    Kind.DUPLICATE: "Kept, on one side of the split: --clean keeps one of each.",
    Kind.NEAR_DUPLICATE: "Kept, on one side of the split.",
    Kind.WRONG_SUFFIX: "Kept: images are read by their content.",
    Kind.TINY: "Kept: they are enlarged where the model's input is larger.",
    Kind.HUGE: "Kept: they only take longer to read.",
}
