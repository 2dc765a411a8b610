"""The split is seeded, stratified, leak-free, and honest about sets that are too small."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.errors import DatasetError
from edge_runtime.workstation.datasets.samples import Sample, Split
from train.intake.split import assign_splits
from train.recipe import SplitSettings

SHARES = SplitSettings(validation=0.125, test=0.125)
LABELS = ("a", "b")


def make(label, count, split=None, prefix=""):
    return [Sample(Path(f"{label}/{prefix}{i}.png"), label, split, f"{prefix}{label}{i:04d}") for i in range(count)]


def counts(samples):
    return Counter((sample.label, sample.split) for sample in samples)


@st.composite
def sets_with_copies(draw):
    """Two classes of at least three different files each, some with copies."""
    copies = {label: draw(st.lists(st.integers(1, 6), min_size=3, max_size=40)) for label in LABELS}
    samples = [
        Sample(Path(f"{label}/{number}-{copy}.png"), label, None, f"{label}{number}")
        for label in LABELS
        for number, times in enumerate(copies[label])
        for copy in range(times)
    ]
    return draw(st.permutations(samples))


@given(sets_with_copies(), st.integers(0, 2**32 - 1))
def test_every_class_is_in_every_part_and_no_file_is_in_two(samples, seed):
    split = assign_splits(samples, LABELS, SHARES, seed)
    assert [sample.path for sample in split] == [sample.path for sample in samples]
    assert set(counts(split)) == {(label, part) for label in LABELS for part in Split}
    parts_by_hash = {}
    for sample in split:
        parts_by_hash.setdefault(sample.sha256, set()).add(sample.split)
    assert all(len(parts) == 1 for parts in parts_by_hash.values())


@given(sets_with_copies(), st.integers(0, 2**32 - 1))
def test_order_and_names_of_files_do_not_matter(samples, seed):
    first = {sample.sha256: sample.split for sample in assign_splits(samples, LABELS, SHARES, seed)}
    renamed = [Sample(Path(f"elsewhere/{i}.jpg"), s.label, None, s.sha256) for i, s in enumerate(reversed(samples))]
    second = {sample.sha256: sample.split for sample in assign_splits(renamed, LABELS, SHARES, seed)}
    assert first == second


def test_shares_hold_per_class_and_the_seed_decides():
    samples = make("a", 400) + make("b", 80)
    split = assign_splits(samples, LABELS, SHARES, 1)
    assert [[counts(split)[label, part] for part in Split] for label in LABELS] == [[300, 50, 50], [60, 10, 10]]
    assert split == assign_splits(samples, LABELS, SHARES, 1)
    assert split != assign_splits(samples, LABELS, SHARES, 2)


def test_three_images_a_class_are_just_enough_and_two_are_not():
    assert set(counts(assign_splits(make("a", 3) + make("b", 3), LABELS, SHARES, 0)).values()) == {1}
    with pytest.raises(DatasetError, match=r"class 'b': expected at least 3 different readable images .* got 2"):
        assign_splits(make("a", 9) + make("b", 2), LABELS, SHARES, 0)
    copies = [Sample(Path(f"b/{i}.png"), "b", None, "same") for i in range(9)]
    with pytest.raises(DatasetError, match="got 1"):
        assign_splits(make("a", 9) + copies, LABELS, SHARES, 0)
    groups = {f"b{i:04d}": "b0000" for i in range(9)}
    with pytest.raises(DatasetError, match="got 1 \\(copies and near copies count once\\)"):
        assign_splits(make("a", 9) + make("b", 9), LABELS, SHARES, 0, groups)


def test_a_fifth_of_validation_becomes_test_where_test_is_missing():
    samples = [*make("a", 20, Split.TRAIN), *make("b", 20, Split.TRAIN)]
    held_out = [*make("a", 10, Split.VALIDATION, "v"), *make("b", 10, Split.VALIDATION, "v")]
    found = counts(assign_splits(samples + held_out, LABELS, SHARES, 3))
    assert [[found[label, part] for part in Split] for label in LABELS] == [[20, 8, 2]] * 2


def test_validation_is_carved_out_of_train_where_it_is_missing():
    samples = [*make("a", 16, Split.TRAIN), *make("b", 16, Split.TRAIN)]
    test = [*make("a", 5, Split.TEST, "t"), *make("b", 5, Split.TEST, "t")]
    split = assign_splits(samples + test, LABELS, SHARES, 3)
    assert [counts(split)["a", part] for part in Split] == [14, 2, 5]
    assert all(sample.split is Split.TEST for sample in split[len(samples) :])


def test_a_source_with_all_parts_is_left_as_it_is_and_must_have_every_class():
    samples = [s for part in Split for label in LABELS for s in make(label, 4, part, part.value)]
    assert assign_splits(samples, LABELS, SHARES, 5) == tuple(samples)
    usable = [s for s in samples if (s.label, s.split) != ("b", Split.TEST)]
    with pytest.raises(DatasetError, match="test: no readable image of class 'b'"):
        assign_splits(usable, LABELS, SHARES, 5)


@given(sets_with_copies(), st.integers(0, 2**32 - 1), st.data())
def test_a_group_of_near_copies_is_in_one_part(samples, seed, data):
    groups = {}
    for label in LABELS:
        hashes = sorted({sample.sha256 for sample in samples if sample.label == label})
        # Three images stay alone, so that every class can be split.
        groups |= {sha256: data.draw(st.sampled_from(hashes[3:])) for sha256 in hashes[3:]}
    split = assign_splits(samples, LABELS, SHARES, seed, groups)
    assert set(counts(split)) == {(label, part) for label in LABELS for part in Split}
    parts = {}
    for sample in split:
        parts.setdefault(groups.get(sample.sha256, sample.sha256), set()).add(sample.split)
    assert all(len(found) == 1 for found in parts.values())
