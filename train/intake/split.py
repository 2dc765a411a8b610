"""Split images into train, validation and test: seeded, stratified by class, copies kept together.

The split of an image depends on the contents of the files and on the seed, never on names or folders. Identical and
near-identical images get the same split, so that no test image is seen in training.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from edge_runtime.errors import DatasetError
from edge_runtime.workstation.datasets.samples import Sample, Split
from train.recipe import SplitSettings

_TEST_SHARE_OF_VALIDATION = 0.2


def assign_splits(
    samples: Sequence[Sample],
    labels: Sequence[str],
    shares: SplitSettings,
    seed: int,
    groups: Mapping[str, str] | None = None,
) -> tuple[Sample, ...]:
    """Assign every image to train, validation or test.

    A source with all three splits stays as it is. If it has none, or train alone, validation and test are taken from
    train; without test, a fifth of validation becomes test; without validation, validation is taken from train.

    Args:
        samples: Usable images with ``sha256``, as `train.intake.audit.audit` keeps them.
        labels: All classes; each must be present in every split.
        shares: Sizes of validation and test where the source has no split.
        seed: Seed of the split, at least 0; the same seed and files give the same split.
        groups: Group keys by SHA-256; images of one group get the same split. An image without a key is its own group.

    Returns:
        The same images in the same order, each with its split.

    Raises:
        DatasetError: A class has too few different images.
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
    keys = {sample.sha256: (groups or {}).get(sample.sha256, sample.sha256) for sample in samples}
    placed = [replace(sample, split=sample.split or Split.TRAIN) for sample in samples]
    moved: dict[str, Split] = {}
    for index, label in enumerate(labels):
        pool = [keys[sample.sha256] for sample in placed if sample.label == label and sample.split is source]
        moved.update(_deal(pool, label, parts, np.random.default_rng([seed, index])))
    result = tuple(
        replace(sample, split=moved.get(keys[sample.sha256], sample.split)) if sample.split is source else sample
        for sample in placed
    )
    _check_every_class(result, labels)
    return result


def _deal(pool: Sequence[str], label: str, parts: dict[Split, float], rng: np.random.Generator) -> dict[str, Split]:
    """Pick keys of one class for each split: about its share of the images, at least one, and never all.

    Args:
        pool: Group key of every image of the class.
        label: Name of the class, for messages.
        parts: Share of the images by split, 0..1.
        rng: Random generator of the order.
    """
    copies = Counter(pool)
    if len(copies) < len(parts) + 1:
        raise DatasetError(
            f"class {label!r}: expected at least {len(parts) + 1} different readable images to split, "
            f"got {len(copies)} (copies and near copies count once); add images or remove the class"
        )
    keys = sorted(copies)
    rng.shuffle(keys)
    # Images without copies come first, so that few images count twice in a metric.
    keys.sort(key=copies.__getitem__)
    chosen: dict[str, Split] = {}
    reserved = len(parts) + 1
    for part, share in parts.items():
        reserved -= 1
        quota = round(len(pool) * share)
        taken = 0
        while keys and (taken == 0 or (taken + copies[keys[0]] <= quota and len(keys) > reserved)):
            taken += copies[keys[0]]
            chosen[keys.pop(0)] = part
    return chosen


def _check_every_class(samples: Sequence[Sample], labels: Sequence[str]) -> None:
    for split in Split:
        present = {sample.label for sample in samples if sample.split is split}
        missing = [label for label in labels if label not in present]
        if missing:
            raise DatasetError(
                f"{split.value}: no readable image of class {', '.join(map(repr, missing))} is left; "
                "add images or remove the class"
            )
