"""How often a model is right, and how it differs from Keras, as a report holds it."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.statistics import Interval, Share


@dataclass(frozen=True)
class LabelShare:
    """Of the pictures with this label, the share that was answered with it (recall)."""

    label: str
    share: Share


@dataclass(frozen=True)
class Reject:
    """What the reject threshold does to answers.

    Attributes:
        threshold: Answers with a smaller score count as "none of the labels", 0..1.
        answered: Share of pictures that keep their answer (coverage).
        right_of_answered: Share of right answers among these; None where none is left.
    """

    threshold: float
    answered: Share
    right_of_answered: Share | None


@dataclass(frozen=True)
class Accuracy:
    """How often a model is right.

    Attributes:
        top1: Share of pictures whose answer is their label.
        top5: Share of pictures whose label is among the five best; None with five labels or fewer.
        per_label: One for each label that has pictures, in label order.
        calibration_error: Expected calibration error of the answers' scores, 0..1.
        reject: With the model's own reject threshold; None where it has none.
    """

    top1: Share
    top5: Share | None
    per_label: tuple[LabelShare, ...]
    calibration_error: float
    reject: Reject | None


@dataclass(frozen=True)
class Moved:
    """Pictures of one label that Keras answers with one label and the artefact with another."""

    label: str
    keras_answer: str
    answer: str
    count: int


@dataclass(frozen=True)
class Flip:
    """A picture whose answer is another than Keras' answer.

    Attributes:
        file: The picture.
        label: Its true label.
        keras_answer: What Keras answers.
        keras_score: The score of that, 0..1.
        answer: What the artefact answers.
        score: The score of that, 0..1.
    """

    file: str
    label: str
    keras_answer: str
    keras_score: float
    answer: str
    score: float


@dataclass(frozen=True)
class AgainstKeras:
    """An artefact beside the Keras model, picture by picture.

    Attributes:
        agreement: Share of pictures with the same answer.
        drop_points: Accuracy of Keras less that of the artefact, in percentage points; positive is a loss.
        drop_interval_points: Tango's 95 % interval of it.
        mcnemar_p: P value of McNemar's exact test that both are right equally often, 0..1.
        lost: Pictures that only Keras has right.
        gained: Pictures that only the artefact has right.
        moved: The most frequent kinds of flips, most frequent first, at most 20.
        flips: The worst flips: where Keras was right and sure first, at most 12.
    """

    agreement: Share
    drop_points: float
    drop_interval_points: Interval
    mcnemar_p: float
    lost: int
    gained: int
    moved: tuple[Moved, ...]
    flips: tuple[Flip, ...]
