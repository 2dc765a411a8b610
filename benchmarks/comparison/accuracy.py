"""Differences in accuracy, image by image where both reports hold the same images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from benchmarks.comparison.record import Difference, Limits, Outcome, Unit
from benchmarks.statistics import Interval, Share, unpaired_drop_interval, unpaired_p
from edge_runtime.workstation.statistics import mcnemar_p, paired_drop_interval


@dataclass(frozen=True)
class Answers:
    """What ``answers.csv`` holds.

    Attributes:
        files: The images.
        hashes: SHA-256 of each, or None where the file does not say.
        truth: True label of each.
        by_subject: Answered label of each, by subject.
    """

    files: tuple[str, ...]
    hashes: tuple[str, ...] | None
    truth: tuple[str, ...]
    by_subject: Mapping[str, Sequence[str]]

    def right(self, subject: str) -> NDArray[np.bool_]:
        """Whether each answer of a subject is the label: bool [images]."""
        pairs = zip(self.by_subject[subject], self.truth, strict=True)
        return np.array([answer == label for answer, label in pairs], np.bool_)


def same_order(before: Answers, after: Answers) -> NDArray[np.intp] | None:
    """For each image of the first where it lies in the second; None where that cannot be known.

    Images are recognised by their hash where both say it, else by their path below the folder that all share, since
    the same set may lie elsewhere on another day.
    """
    for first, second in _keys(before, after):
        positions = {key: index for index, key in enumerate(second)}
        if len(positions) == len(second) == len(first) and set(first) == set(positions):
            order = np.array([positions[key] for key in first], np.intp)
            same = all(label == after.truth[index] for label, index in zip(before.truth, order, strict=True))
            return order if same else None
    return None


def _keys(before: Answers, after: Answers) -> Iterator[tuple[Sequence[object], Sequence[object]]]:
    # A set may hold an image twice, so hashes alone may not tell.
    if before.hashes is not None and after.hashes is not None:
        yield before.hashes, after.hashes
    yield before.files, after.files
    yield _below_common_folder(before.files), _below_common_folder(after.files)


def _below_common_folder(files: Sequence[str]) -> list[tuple[str, ...]]:
    parts = [PurePosixPath(file).parts for file in files]
    depth = 0
    for level in zip(*(part[:-1] for part in parts), strict=False):
        if len(set(level)) > 1:
            break
        depth += 1
    return [part[depth:] for part in parts]


ACCURACY = "top-1 accuracy"
_PAIRED = "the same images, one by one: Tango's interval, McNemar's exact test"
_UNPAIRED = "two shares, images not paired: Newcombe's hybrid score interval"


@dataclass(frozen=True)
class Pairing:
    """Answers of both reports, and where each image of the first lies in the second."""

    before: Answers
    after: Answers
    order: NDArray[np.intp]


def pair_answers(
    before: Answers | None, after: Answers | None, *, same_images: bool
) -> tuple[Pairing | None, tuple[str, ...]]:
    """Pair the images of two reports.

    Returns:
        The pairs, or None; and a sentence that says why there are none, unless other images are the reason.
    """
    if not same_images:
        return None, ()  # said already, and louder
    if before is None or after is None:
        which = "both reports" if before is None and after is None else "one report"
        return None, (f"Answers are missing beside {which} (answers.csv), so accuracies are compared as two shares.",)
    order = same_order(before, after)
    if order is None:
        return None, (
            "The answers of the two reports cannot be brought together image by image, because files or labels "
            "have other names, so accuracies are compared as two shares.",
        )
    return Pairing(before, after, order), ()


def accuracy_difference(name: str, before: Share, after: Share, pairing: Pairing | None, limits: Limits) -> Difference:
    """The difference of one subject, not yet judged (`Outcome.SHOWN`), its p value not yet adjusted.

    Args:
        name: The subject.
        before: Its share of right answers in the first report.
        after: The same in the second.
        pairing: Or None, where images cannot be paired.
        limits: How much may be lost.
    """
    method = _UNPAIRED
    low_high, p = unpaired_drop_interval(before, after), unpaired_p(before, after)
    if pairing is not None and _tells(pairing.before, name, before) and _tells(pairing.after, name, after):
        right_before, right_after = pairing.before.right(name), pairing.after.right(name)[pairing.order]
        low_high = Interval(*paired_drop_interval(right_before, right_after))
        p, method = mcnemar_p(right_before, right_after), _PAIRED
    return Difference(
        metric=ACCURACY,
        unit=Unit.PERCENT,
        before=100 * before.hits / before.total,
        after=100 * after.hits / after.total,
        change=100 * (after.hits / after.total - before.hits / before.total),
        interval=Interval(-low_high.high, -low_high.low),
        p=p,
        method=method,
        limit=limits.max_drop_points,
        outcome=Outcome.SHOWN,
    )


def _tells(answers: Answers, name: str, share: Share) -> bool:
    """Whether the answers are those that the report counted: labels may be written in two ways, files be edited."""
    if name not in answers.by_subject or len(answers.truth) != share.total:
        return False
    return int(np.count_nonzero(answers.right(name))) == share.hits
