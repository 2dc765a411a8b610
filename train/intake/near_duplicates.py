"""Find near-duplicate images: recompressed, scaled, slightly brighter or slightly cropped.

The search has two steps. Perceptual hashes that differ in at most 8 bits give candidates: hashes that differ in at most
k bits agree in at least one of k + 1 bands (pigeonhole principle), so only images that share a band are compared. Then
thumbnails confirm each pair, because hashes of different images sometimes collide. Mirror images do not count.

The limits were chosen on real sets (happy_sad, cats_and_dogs, flowers, faces_fer, smileys) by inspection of all pairs
near them: up to 0.48 all pairs were one photo, from 0.64 none (see docs/clean-your-data.md).
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from train.intake.facts import THUMB_SIDE_PX, Facts

_MAX_DISTANCE_BITS = 8
_MAX_DIFFERENCE = 0.40
_MAX_BRIGHTNESS_LEVELS = 24.0
_MIN_CONTRAST_LEVELS = 4.0
# Another object on the same background: a large difference concentrated in few thumbnail pixels. Cropping and scaling
# spread the difference along all edges.
_LOCAL_PIXELS = 13
_LOCAL_SHARE = 0.70
_LOCAL_LEVELS = 30.0
_MAX_CHAIN = 20
MIN_PAIR_LIMIT = 100_000
_MAX_PAIRS_PER_IMAGE = 10
_COMPARED_AT_ONCE = 1 << 22
_PAIRS_AT_ONCE = 1 << 12


class TooManyAlikeError(Exception):
    """There are too many similar pairs for copies to be told from similarity."""


def near_pairs(facts: Sequence[Facts]) -> list[tuple[int, int]]:
    """Find the pairs of near-identical images.

    Args:
        facts: Facts of readable files with different contents.

    Returns:
        Pairs of indices (i < j), sorted. Images with almost no contrast, such as blank pages, are in no pair.

    Raises:
        TooManyAlikeError: There are far more pairs than images, as among frames of one fixed camera.
    """
    if len(facts) < 2:
        return []
    thumbs = np.frombuffer(b"".join(entry.thumb_rgb_u8 for entry in facts), np.uint8)
    thumbs = thumbs.reshape(len(facts), THUMB_SIDE_PX * THUMB_SIDE_PX, 3)
    rows = np.flatnonzero([_contrast(thumb) >= _MIN_CONTRAST_LEVELS for thumb in thumbs])
    hashes = np.array([entry.phash for entry in facts], np.uint64)[rows]
    pairs = rows[_candidates(hashes)]
    confirmed = [
        chunk[_is_same_image(thumbs[chunk[:, 0]], thumbs[chunk[:, 1]])]
        for chunk in np.split(pairs, range(_PAIRS_AT_ONCE, len(pairs), _PAIRS_AT_ONCE))
    ]
    return [(int(first), int(second)) for first, second in np.concatenate(confirmed)]


def group_pairs(count: int, pairs: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Group images that are linked by pairs.

    Up to 20 linked images form a group. A longer chain, such as frames of a video, is cut into groups of images that
    are all near one of them, since the ends of a chain may have nothing in common.

    Args:
        count: Number of images.
        pairs: Pairs of indices below ``count``.

    Returns:
        Groups of at least two sorted indices, in order of their first.
    """
    neighbours: dict[int, set[int]] = defaultdict(set)
    for first, second in pairs:
        neighbours[first].add(second)
        neighbours[second].add(first)
    seen: set[int] = set()
    groups: list[list[int]] = []
    for start in range(count):
        if start in seen or start not in neighbours:
            continue
        component = _component(start, neighbours)
        seen |= component
        groups += [sorted(component)] if len(component) <= _MAX_CHAIN else _stars(component, neighbours)
    return sorted(groups)


def _component(start: int, neighbours: dict[int, set[int]]) -> set[int]:
    found, waiting = {start}, [start]
    while waiting:
        new = neighbours[waiting.pop()] - found
        found |= new
        waiting += new
    return found


def _stars(component: set[int], neighbours: dict[int, set[int]]) -> list[list[int]]:
    """Cut a component into groups, each one image with all its remaining neighbours, most neighbours first."""
    left = set(component)
    groups = []
    for centre in sorted(component, key=lambda index: (-len(neighbours[index]), index)):
        if centre in left:
            group = {centre} | (neighbours[centre] & left)
            left -= group
            if len(group) > 1:
                groups.append(sorted(group))
    return groups


def _candidates(hashes: NDArray[np.uint64]) -> NDArray[np.intp]:
    """Find pairs (i < j) of hashes that differ in at most 8 bits, sorted: intp [pairs, 2]."""
    count = len(hashes)
    limit = MIN_PAIR_LIMIT + _MAX_PAIRS_PER_IMAGE * count
    bands = _MAX_DISTANCE_BITS + 1
    edges = [64 * band // bands for band in range(bands + 1)]
    codes = np.empty(0, np.intp)
    for low, high in itertools.pairwise(edges):
        keys = hashes >> np.uint64(low) & np.uint64((1 << high - low) - 1)
        order = np.argsort(keys, kind="stable")
        found, total = [codes], 0
        for bucket in np.split(order, np.flatnonzero(np.diff(keys[order])) + 1):
            for first, second in _close_pairs(hashes, bucket):
                found.append(first * count + second)
                total += len(first)
                if total > limit:
                    raise TooManyAlikeError(
                        f"among {count} images, more than {limit} pairs are almost the same, too many to tell "
                        "copies from similar images; split a set from one camera or video by recording, or its test "
                        "accuracy is too high"
                    )
        codes = np.unique(np.concatenate(found))
    return np.stack([codes // max(1, count), codes % max(1, count)], axis=1)


def _close_pairs(
    hashes: NDArray[np.uint64], bucket: NDArray[np.intp]
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Yield first and second indices of the close pairs in a bucket of ascending indices, a few rows at a time."""
    step = max(1, _COMPARED_AT_ONCE // max(1, len(bucket)))
    for start in range(0, len(bucket) - 1, step):
        rows = bucket[start : start + step]
        is_close = _bit_counts(hashes[rows, None] ^ hashes[None, bucket]) <= _MAX_DISTANCE_BITS
        firsts, seconds = np.nonzero(np.triu(is_close, k=start + 1))
        if len(firsts):
            yield rows[firsts], bucket[seconds]


def _bit_counts(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Count the set bits of each value (Warren, Hacker's Delight, figure 5-2); NumPy 1 has no such function."""
    values = values - (values >> np.uint64(1) & np.uint64(0x5555555555555555))
    pairs = np.uint64(0x3333333333333333)
    values = (values & pairs) + (values >> np.uint64(2) & pairs)
    values = values + (values >> np.uint64(4)) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return values * np.uint64(0x0101010101010101) >> np.uint64(56)


def _contrast(thumb_pc_rgb_u8: NDArray[np.uint8]) -> float:
    return float(np.sqrt(thumb_pc_rgb_u8.astype(np.float64).var(axis=0).mean()))


def _is_same_image(first_npc_u8: NDArray[np.uint8], second_npc_u8: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Compare pairs of thumbnails, uint8 [pairs, 256, 3] RGB each; returns bool [pairs]."""
    first, second = first_npc_u8.astype(np.float32), second_npc_u8.astype(np.float32)
    first_mean, second_mean = first.mean(axis=1, keepdims=True), second.mean(axis=1, keepdims=True)
    is_as_bright = np.abs(first_mean - second_mean).max(axis=(1, 2)) <= _MAX_BRIGHTNESS_LEVELS
    first, second = first - first_mean, second - second_mean
    errors = ((first - second) ** 2).mean(axis=2)
    variance = ((first**2).mean(axis=(1, 2)) + (second**2).mean(axis=(1, 2))) / 2
    is_close = errors.mean(axis=1) <= _MAX_DIFFERENCE**2 * variance
    largest = np.sort(errors, axis=1)[:, -_LOCAL_PIXELS:]
    is_local = (largest.sum(axis=1) > _LOCAL_SHARE * errors.sum(axis=1)) & (largest[:, -1] > _LOCAL_LEVELS**2)
    return is_as_bright & is_close & ~is_local
