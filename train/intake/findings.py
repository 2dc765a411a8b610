"""Findings of an audit: kinds, severities, advice, and files left out."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from edge_runtime.workstation.datasets.samples import Sample


class Severity(str, enum.Enum):
    """Severity of a finding."""

    ERROR = "error"  # some or all of the files are left out
    WARNING = "warning"  # all are kept


class Kind(str, enum.Enum):
    """Kind of a finding, in the order of the report."""

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
        """Heading in reports."""
        return _TITLES[self]

    @property
    def advice(self) -> str:
        """Sentence on the treatment by edge-train and the action to consider."""
        return _ADVICE[self]


@dataclass(frozen=True)
class Finding:
    """Problem of some files, or of the data set as a whole.

    Attributes:
        kind: Kind of the problem.
        message: One sentence, without file names.
        samples: Affected files; empty for the data set as a whole. A file without an image suffix has an empty label.
        severity: Error if files are left out because of it.
    """

    kind: Kind
    message: str
    samples: tuple[Sample, ...]
    severity: Severity


@dataclass(frozen=True)
class LeftOut:
    """File that is not used, and the reason."""

    sample: Sample
    reason: str


_TITLES = {
    Kind.TWO_CLASSES: "One image in two classes",
    Kind.LEAKAGE: "One image in two parts of the set",
    Kind.UNREADABLE: "Unreadable files",
    Kind.TRUNCATED: "Truncated files",
    Kind.NOT_AN_IMAGE: "Files that are not images",
    Kind.ALIKE: "Too many similar images",
    Kind.UNBALANCED: "Unbalanced classes",
    Kind.FEW: "Few images",
    Kind.DUPLICATE: "Copies within a class",
    Kind.NEAR_DUPLICATE: "Near duplicates within a class",
    Kind.WRONG_SUFFIX: "Wrong file name suffixes",
    Kind.TINY: "Tiny images",
    Kind.HUGE: "Huge images",
}
_ADVICE = {
    Kind.TWO_CLASSES: "One label is wrong, so all are left out: delete the wrong files.",
    Kind.LEAKAGE: "Kept in one part only, test before validation before train, so that the test stays independent.",
    Kind.UNREADABLE: "Left out: replace or delete them.",
    Kind.TRUNCATED: "Left out: download them again, or delete them.",
    Kind.NOT_AN_IMAGE: "Left out: no action needed.",
    Kind.ALIKE: "Kept: if they come from one camera or video, split the set by recording yourself.",
    Kind.UNBALANCED: "Kept: add images to the small classes; accuracy alone is misleading.",
    Kind.FEW: "Kept: metrics on few images have wide confidence intervals.",
    Kind.DUPLICATE: "Kept, in one part of the split: --clean keeps one of each.",
    Kind.NEAR_DUPLICATE: "Kept, in one part of the split.",
    Kind.WRONG_SUFFIX: "Kept: images are read by their content.",
    Kind.TINY: "Kept: they are enlarged where the model's input is larger.",
    Kind.HUGE: "Kept: they take longer to read.",
}
