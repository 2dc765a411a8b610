"""The verdict on a set: what is kept, what is left out and why, from facts alone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.workstation.datasets.samples import Dataset, Sample, Split
from train.intake.audit import Audit, audit, drop_conflicts
from train.intake.facts import NOT_AN_IMAGE, TRUNCATED, Facts
from train.intake.findings import Kind, LeftOut, Severity


def facts_of(sha256, **changes):
    """Facts of a usable image; each hash has an image of its own."""
    rng = np.random.default_rng([*sha256.encode()])
    phash, thumb = int(rng.integers(2**63)), rng.integers(0, 256, 768, np.uint8).tobytes()
    return replace(Facts(sha256, 9, "png", 100, 80, phash, thumb, ""), **changes)


def near(sha256, original):
    """Facts of another file with the image of ``original``."""
    model = facts_of(original)
    return facts_of(sha256, phash=model.phash ^ 3, thumb_rgb_u8=model.thumb_rgb_u8)


def make(label, hashes, split=None, folder=""):
    return [Sample(Path(f"{folder}{label}/{sha256}.png"), label, split, sha256) for sha256 in hashes]


def judge(samples, *special, ignored=(), unread=()):
    facts = {sample.sha256: facts_of(sample.sha256) for sample in samples} | {entry.sha256: entry for entry in special}
    dataset = Dataset("set", tuple(sorted({sample.label for sample in samples})), tuple(samples), ignored)
    return audit(dataset, samples, facts, unread)


def numbered(prefix, count=30):
    return [f"{prefix}{number:03d}" for number in range(count)]


def in_parts(*parts):
    return [sample for part in parts for label in "ab" for sample in make(label, numbered(part + label), part)]


def kinds(result):
    return [finding.kind for finding in result.findings]


def only(result, kind):
    (finding,) = [finding for finding in result.findings if finding.kind is kind]
    return finding


GOOD = make("a", numbered("a")) + make("b", numbered("b"))


def test_nothing_is_found_in_a_good_set():
    result = judge(GOOD)
    assert result == Audit((), tuple(GOOD), (), {sample.sha256: sample.sha256 for sample in GOOD})


def test_one_file_under_two_labels_is_left_out_of_both():
    clash = [Sample(Path("a/x"), "a", None, "x"), Sample(Path("b/y"), "b", None, "x")]
    result = judge(GOOD + clash)
    assert result.kept == tuple(GOOD)
    reasons = [f"the same file is also labelled {label}" for label in "ba"]
    assert result.left_out == tuple(map(LeftOut, clash, reasons))
    finding = only(result, Kind.TWO_CLASSES)
    assert (finding.message, finding.severity) == ("the same file is labelled a and b", Severity.ERROR)
    assert set(finding.samples) == set(clash)


def test_almost_the_same_image_under_two_labels_is_left_out_of_both():
    clash = [*make("a", ["x"]), *make("b", ["y"])]
    result = judge(GOOD + clash, near("y", "x"))
    assert result.kept == tuple(GOOD)
    reasons = [f"almost the same image is labelled {other}" for other in ("b: b/y.png", "a: a/x.png")]
    assert [item.reason for item in result.left_out] == reasons
    assert only(result, Kind.TWO_CLASSES).message == "almost the same image is labelled a and b"


@pytest.mark.parametrize("low", [Split.TRAIN, Split.VALIDATION])
def test_one_file_in_two_parts_stays_where_it_is_held_out_furthest(low):
    good = in_parts(low, Split.TEST)
    clash = [*make("a", ["x"], low), *make("a", ["x"], Split.TEST, "test/")]
    result = judge(good + clash)
    assert result.kept == (*good, clash[1])
    assert result.left_out == (LeftOut(clash[0], "the same file is also in test, where it stays"),)
    assert only(result, Kind.LEAKAGE).message == f"the same file is in {low.value} and test"
    assert set(only(result, Kind.LEAKAGE).samples) == set(clash)


def test_almost_the_same_image_in_two_parts_stays_in_the_test_only():
    clash = [*make("a", ["x"], Split.TRAIN), *make("a", ["y"], Split.TEST)]
    result = judge(in_parts(Split.TRAIN, Split.TEST) + clash, near("y", "x"))
    assert result.left_out == (LeftOut(clash[0], "almost the same image is in test: a/y.png"),)


def test_copies_and_near_copies_of_a_class_stay_in_one_group():
    copies = [*make("a", ["x"]), *make("a", ["x"], folder="other/"), *make("a", ["y"])]
    result = judge(GOOD + copies, near("y", "x"))
    assert result.kept == (*GOOD, *copies)
    assert result.groups["x"] == result.groups["y"]
    assert only(result, Kind.DUPLICATE).samples == tuple(copies[:2])
    assert only(result, Kind.NEAR_DUPLICATE).samples == tuple(copies)
    assert len(set(result.groups.values())) == len(GOOD) + 1


def test_where_likeness_is_the_rule_it_decides_nothing_but_identity_does():
    """Frames of one scene, moved into two classes; and one file that is really in both."""
    frames = make("a", numbered("f", 15)) + make("b", numbered("g", 15))
    clash = [Sample(Path("a/x"), "a", None, "x"), Sample(Path("b/y"), "b", None, "x")]
    result = judge(frames + clash, *(near(sample.sha256, "scene") for sample in frames))
    assert result.kept == tuple(frames)
    assert {item.sample for item in result.left_out} == set(clash)
    assert "30 of 32 images are almost the same as one in another class" in result.findings[1].message
    # All of a class as one group could not be split at all.
    assert len(set(result.groups.values())) == 30
    assert "the 15 images of a show only 1 that differ" in result.findings[2].message
    assert kinds(result)[:4] == [Kind.TWO_CLASSES, Kind.ALIKE, Kind.ALIKE, Kind.ALIKE]


def test_far_too_many_like_images_are_said_to_be_so(monkeypatch):
    monkeypatch.setattr("train.intake.near_duplicates.MIN_PAIR_LIMIT", 0)
    frames = make("a", numbered("f", 40))
    result = judge(frames + make("b", numbered("b", 40)), *(near(sample.sha256, "scene") for sample in frames))
    # 780 pairs against 10 for each of the 80 images is still fine; one class more is not.
    assert Kind.ALIKE in kinds(result)
    both = frames + make("b", numbered("g", 40))
    result = judge(both, *(near(sample.sha256, "scene") for sample in both))
    assert only(result, Kind.ALIKE).message.startswith("among 80 images, more than 800 pairs")
    assert result.kept == tuple(both)


def test_unusable_files_are_left_out_by_kind_and_reason():
    bad = make("a", ["cut", "page", "broken", "cut2"])
    problems = [TRUNCATED, NOT_AN_IMAGE, "cannot be decoded", TRUNCATED]
    special = [Facts.unusable(sample.sha256, problem) for sample, problem in zip(bad, problems, strict=True)]
    gone = Sample(Path("a/gone.png"), "a")
    unread = (LeftOut(gone, "cannot be read (No such file or directory)"),)
    result = judge(GOOD + bad, *special, ignored=(Path("a/notes.txt"),), unread=unread)
    assert result.kept == tuple(GOOD)
    names = sorted(item.sample.path.name for item in result.left_out)
    assert names == ["broken.png", "cut.png", "cut2.png", "gone.png", "notes.txt", "page.png"]
    assert only(result, Kind.TRUNCATED).samples == (bad[0], bad[3])
    messages = [finding.message for finding in result.findings if finding.kind is Kind.UNREADABLE]
    assert messages == ["cannot be decoded", "cannot be read (No such file or directory)"]
    assert [finding.samples[0].label for finding in result.findings if finding.kind is Kind.NOT_AN_IMAGE] == ["", "a"]
    assert {finding.severity for finding in result.findings} == {Severity.ERROR}


def test_odd_images_are_kept_and_named():
    changes = ({"width_px": 31}, {"width_px": 6000, "height_px": 4000}, {"format": "jpeg"}, {"format": ""})
    result = judge(GOOD, *(facts_of(f"a{number:03d}", **fields) for number, fields in enumerate(changes)))
    assert result.kept == tuple(GOOD)
    assert only(result, Kind.TINY).message == "1 of 60 images have a side under 32 pixels"
    assert only(result, Kind.HUGE).samples == (GOOD[1],)
    wrong = only(result, Kind.WRONG_SUFFIX)
    assert (wrong.samples, wrong.message) == ((GOOD[2],), "JPEG by content, but named .png")
    assert {finding.severity for finding in result.findings} == {Severity.WARNING}


def test_a_whole_set_of_tiny_images_is_one_finding():
    result = judge(GOOD, *(facts_of(sample.sha256, width_px=20, height_px=20) for sample in GOOD))
    assert kinds(result) == [Kind.TINY]


def test_unbalanced_and_small_classes_are_warned_of_and_copies_count_once():
    copies = [Sample(Path(f"b/copy{number}.png"), "b", None, "b000") for number in range(50)]
    result = judge(make("a", numbered("a", 31)) + make("b", numbered("b", 10)) + copies)
    says = "a has 31 images and b 10: always answering a would already be right for 76%"
    assert only(result, Kind.UNBALANCED).message == says
    assert only(result, Kind.FEW).message == "fewer than 20 different images: b 10"
    assert Kind.UNBALANCED not in kinds(judge(make("a", numbered("a", 60)) + make("b", numbered("b", 20))))


def test_a_class_of_which_nothing_is_left_is_no_crash():
    result = judge(GOOD, *(Facts.unusable(f"b{number:03d}", TRUNCATED) for number in range(30)))
    assert only(result, Kind.UNBALANCED).message.startswith("a has 30 images and b 0")


@st.composite
def conflicting_sets(draw):
    """Few hashes under few labels and parts, and a symmetric relation of near copies."""
    row = st.tuples(st.sampled_from("ab"), st.sampled_from([None, *Split]), st.integers(0, 12))
    rows = draw(st.lists(row, max_size=25))
    samples = [Sample(Path(str(number)), label, split, f"{sha}") for number, (label, split, sha) in enumerate(rows)]
    links = {}
    for first, second in draw(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=10)):
        if first != second:
            links.setdefault(f"{first}", set()).add(f"{second}")
            links.setdefault(f"{second}", set()).add(f"{first}")
    return samples, links


@given(conflicting_sets())
def test_what_is_kept_has_no_conflict_and_every_file_is_accounted_for(case):
    samples, links = case
    screened = drop_conflicts(samples, links)
    assert sorted([*screened.kept, *(item.sample for item in screened.left_out)], key=str) == sorted(samples, key=str)
    near_decides = not any(finding.kind is Kind.ALIKE for finding in screened.findings)
    for sample in screened.kept:
        alike = {sample.sha256, *(links.get(sample.sha256, ()) if near_decides else ())}
        for other in (other for other in screened.kept if other.sha256 in alike):
            assert sample.label == other.label
            assert sample.split is other.split or None in (sample.split, other.split)
    named = {sample for finding in screened.findings for sample in finding.samples}
    assert {item.sample for item in screened.left_out} <= named
