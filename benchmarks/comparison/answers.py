"""Every answer of a report, and which pictures of two reports are the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Answers:
    """What ``answers.csv`` holds.

    Attributes:
        files: The pictures.
        hashes: SHA-256 of each, or None where the file does not say.
        truth: True label of each.
        by_subject: Answered label of each, by subject.
    """

    files: tuple[str, ...]
    hashes: tuple[str, ...] | None
    truth: tuple[str, ...]
    by_subject: Mapping[str, Sequence[str]]

    def right(self, subject: str) -> NDArray[np.bool_]:
        """Whether each answer of a subject is the label: bool [pictures]."""
        pairs = zip(self.by_subject[subject], self.truth, strict=True)
        return np.array([answer == label for answer, label in pairs], np.bool_)


def same_order(before: Answers, after: Answers) -> NDArray[np.intp] | None:
    """For each picture of the first where it lies in the second; None where that cannot be known.

    Pictures are recognised by their hash where both say it, else by their path below the folder that all share, since
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
    # A set may hold a picture twice, so hashes alone may not tell.
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
