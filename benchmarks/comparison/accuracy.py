"""Differences in accuracy, image by image where both reports hold the same images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from benchmarks.comparison.record import Difference, Limits, Outcome, Unit
from benchmarks.records import Answers
from benchmarks.statistics import Interval, Share, unpaired_drop_interval, unpaired_p
from edge_runtime.workstation.statistics import mcnemar_p, paired_drop_interval

ACCURACY = "top-1 accuracy"
_PAIRED = "the same images, one by one: Tango's interval, McNemar's exact test"
_UNPAIRED = "two shares, images not paired: Newcombe's hybrid score interval"


@dataclass(frozen=True)
class Pairing:
    """Answers of both reports, and the index in the second of each image of the first."""

    before: Answers
    after: Answers
    order: NDArray[np.intp]


def pair_answers(
    before: Answers | None, after: Answers | None, *, same_images: bool
) -> tuple[Pairing | None, tuple[str, ...]]:
    """Pair the images of two reports.

    Returns:
        The pairs, or None; and a sentence with the reason why there are none, unless the images differ.
    """
    if not same_images:
        return None, ()  # `find_comparability` reports it
    if before is None or after is None:
        which = "both reports" if before is None and after is None else "one report"
        return None, (f"Answers are missing beside {which} (answers.csv), so accuracies are compared as two shares.",)
    order = same_order(before, after)
    if order is None:
        return None, (
            "The answers of the two reports cannot be paired image by image, because names of files or labels differ, "
            "so accuracies are compared as two shares.",
        )
    return Pairing(before, after, order), ()


def same_order(before: Answers, after: Answers) -> NDArray[np.intp] | None:
    """Find the index in the second of each image of the first; None where that is ambiguous.

    Images are identified by their hash where both have it, else by their path below their common folder, since the
    same set may be in another place.
    """
    for first, second in _keys(before, after):
        positions = {key: index for index, key in enumerate(second)}
        if len(positions) == len(second) == len(first) and set(first) == set(positions):
            order = np.array([positions[key] for key in first], np.intp)
            same = all(label == after.truth[index] for label, index in zip(before.truth, order, strict=True))
            return order if same else None
    return None


def _keys(before: Answers, after: Answers) -> Iterator[tuple[Sequence[object], Sequence[object]]]:
    # A set may hold an image twice, so hashes alone may be ambiguous.
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


def accuracy_difference(name: str, before: Share, after: Share, pairing: Pairing | None, limits: Limits) -> Difference:
    """Compare the accuracy of one subject, not yet judged (`Outcome.SHOWN`), its p value not yet adjusted.

    ``before`` and ``after`` are the shares of right answers; ``pairing`` is None where images cannot be paired.
    """
    if pairing is not None and pairing.before.match(name, before) and pairing.after.match(name, after):
        rights = pairing.before.right(name), pairing.after.right(name)[pairing.order]
        drop, p, method = Interval(*paired_drop_interval(*rights)), mcnemar_p(*rights), _PAIRED
    else:
        drop, p, method = unpaired_drop_interval(before, after), unpaired_p(before, after), _UNPAIRED
    shares = 100 * before.hits / before.total, 100 * after.hits / after.total
    return Difference(
        metric=ACCURACY,
        unit=Unit.PERCENT,
        before=shares[0],
        after=shares[1],
        change=shares[1] - shares[0],
        interval=Interval(-drop.high, -drop.low),
        p=p,
        method=method,
        limit=limits.max_drop_points,
        outcome=Outcome.SHOWN,
    )
