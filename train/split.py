"""Deal pictures to train, validation and test: seeded, stratified by class, and without a copy in two parts.

Which part a picture gets depends on the bytes of the files and on the seed, never on names or folders. Files with the
same bytes stay together, so that no test picture has been seen in training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from edge_runtime.datasets.samples import Sample, Split
from edge_runtime.errors import DatasetError
from train.recipe import SplitSettings

_TEST_SHARE_OF_VALIDATION = 0.2
_HELD_OUT_FIRST = (Split.TEST, Split.VALIDATION, Split.TRAIN)


@dataclass(frozen=True)
class LeftOut:
    """A file that is not used, and why."""

    sample: Sample
    reason: str


def drop_conflicts(samples: Sequence[Sample]) -> tuple[list[Sample], list[LeftOut]]:
    """Leave out files that would make a measurement dishonest.

    The same bytes under two labels are both left out, since one label is wrong. The same bytes in two given parts are
    kept in the part that is held out furthest (test, then validation), and left out of the other.

    Args:
        samples: With ``sha256``; ``split`` may be None.

    Returns:
        What is kept, in the given order, and what is left out.
    """
    labels: dict[str, set[str]] = {}
    splits: dict[str, set[Split]] = {}
    for sample in samples:
        labels.setdefault(sample.sha256, set()).add(sample.label)
        if sample.split is not None:
            splits.setdefault(sample.sha256, set()).add(sample.split)
    kept: list[Sample] = []
    left_out: list[LeftOut] = []
    for sample in samples:
        home = next((split for split in _HELD_OUT_FIRST if split in splits.get(sample.sha256, ())), None)
        if len(labels[sample.sha256]) > 1:
            others = ", ".join(sorted(labels[sample.sha256] - {sample.label}))
            left_out.append(LeftOut(sample, f"the same file is also labelled {others}"))
        elif home is not None and sample.split is not None and sample.split is not home:
            left_out.append(LeftOut(sample, f"the same file is also in {home.value}, where it stays"))
        else:
            kept.append(sample)
    return kept, left_out


def assign_splits(
    samples: Sequence[Sample], labels: Sequence[str], shares: SplitSettings, seed: int
) -> tuple[Sample, ...]:
    """Give every picture its part.

    A source that says all three parts is left as it is. Where it says none, or only train, validation and test are
    carved out of train; where it lacks test, a fifth of validation becomes test; where it lacks validation, that is
    carved out of train.

    Args:
        samples: With ``sha256``, after `drop_conflicts`.
        labels: All classes; each must end up in every part.
        shares: Sizes of validation and test where the source does not say.
        seed: At least 0; the same seed and files give the same parts.

    Returns:
        The same pictures in the same order, each with its part.

    Raises:
        DatasetError: A class has too few different pictures.
    """
    given = {sample.split for sample in samples} - {None}
    if {Split.TRAIN, Split.VALIDATION, Split.TEST} <= given:
        source, parts = Split.TRAIN, {}
    elif given == {Split.TRAIN, Split.VALIDATION}:
        source, parts = Split.VALIDATION, {Split.TEST: _TEST_SHARE_OF_VALIDATION}
    elif given == {Split.TRAIN, Split.TEST}:
        source, parts = Split.TRAIN, {Split.VALIDATION: shares.validation}
    else:
        source, parts = Split.TRAIN, {Split.TEST: shares.test, Split.VALIDATION: shares.validation}
    placed = [replace(sample, split=sample.split or Split.TRAIN) for sample in samples]
    moved: dict[str, Split] = {}
    for index, label in enumerate(labels):
        pool = [sample for sample in placed if sample.label == label and sample.split is source]
        moved.update(_deal(pool, label, parts, np.random.default_rng([seed, index])))
    result = tuple(
        replace(sample, split=moved.get(sample.sha256, sample.split)) if sample.split is source else sample
        for sample in placed
    )
    _check_every_class(result, labels)
    return result


def _deal(pool: Sequence[Sample], label: str, parts: dict[Split, float], rng: np.random.Generator) -> dict[str, Split]:
    """Pick hashes of one class for each part, about ``share`` of the pictures and at least one, leaving some."""
    copies: dict[str, int] = {}
    for sample in pool:
        copies[sample.sha256] = copies.get(sample.sha256, 0) + 1
    if len(copies) < len(parts) + 1:
        raise DatasetError(
            f"class {label!r}: expected at least {len(parts) + 1} different readable pictures to split, "
            f"got {len(copies)}; add pictures or remove the class"
        )
    hashes = sorted(copies)
    rng.shuffle(hashes)
    # Files without copies come first, so that few pictures count twice in a measurement.
    hashes.sort(key=copies.__getitem__)
    chosen: dict[str, Split] = {}
    reserved = len(parts) + 1
    for part, share in parts.items():
        reserved -= 1
        quota = round(len(pool) * share)
        taken = 0
        while hashes and (taken == 0 or (taken + copies[hashes[0]] <= quota and len(hashes) > reserved)):
            taken += copies[hashes[0]]
            chosen[hashes.pop(0)] = part
    return chosen


def _check_every_class(samples: Sequence[Sample], labels: Sequence[str]) -> None:
    for split in Split:
        present = {sample.label for sample in samples if sample.split is split}
        missing = [label for label in labels if label not in present]
        if missing:
            raise DatasetError(
                f"{split.value}: no readable picture of class {', '.join(map(repr, missing))} is left; "
                "add pictures or remove the class"
            )
