"""How often a comparison of two reports is wrong, and the arithmetic below it."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import statistics as stats
from benchmarks.comparison.accuracy import same_order
from benchmarks.comparison.difference import compare_reports
from benchmarks.comparison.record import Limits
from benchmarks.records import Answers
from support.reports import Sample, figures_of, sample_report, with_figures

SAMPLES = (Sample("keras-function", 4.0), *(Sample(name, 0.7) for name in ("float32", "float16", "dynamic", "int8")))
IMAGES = 1000
BASE = sample_report(SAMPLES, images=IMAGES, keras_right=900)


def measured(rng, difficulty, *, unsteady, slow=1.0, drop=0.0):
    """A report as another day gives it.

    A model is wrong where an image's difficulty, 0..1, is below its share of mistakes. The machine's speed moves by
    15 % between reports, and for each model and session by ``unsteady``; int8 is ``slow`` and loses ``drop``.
    """
    machine = np.exp(0.15 * rng.standard_normal())
    report, by_subject = BASE, {}
    for sample in SAMPLES:
        is_int8 = sample.name == "int8"
        session = np.exp(unsteady * np.repeat(rng.standard_normal(2), 10))
        level = sample.p50_ms * machine * session * (slow if is_int8 else 1.0)
        bursts = tuple((level * np.exp(0.02 * rng.standard_normal(20))).tolist())
        is_right = difficulty + 0.02 * rng.standard_normal(IMAGES) > 0.1 + (drop if is_int8 else 0.0)
        figures = figures_of(BASE, sample.name)
        report = with_figures(
            report,
            sample.name,
            single_stream=replace(figures.single_stream, burst_p50_ms=bursts),
            accuracy=replace(figures.accuracy, top1=stats.share_of(int(is_right.sum()), IMAGES)),
        )
        by_subject[sample.name] = tuple("cat" if right else "dog" for right in is_right)
    return report, Answers(tuple(f"{index}.jpg" for index in range(IMAGES)), ("cat",) * IMAGES, by_subject)


def pair(seed, limits, unsteady, **changes):
    rng = np.random.default_rng(seed)
    difficulty = rng.uniform(size=IMAGES)
    before, answers_before = measured(rng, difficulty, unsteady=unsteady)
    after, answers_after = measured(rng, difficulty, unsteady=unsteady, **changes)
    return compare_reports(before, after, answers_before, answers_after, limits)


def test_where_nothing_changed_hardly_any_comparison_finds_something():
    """With limits of 0 nothing but the tests decides; 8 of them keep the promise of 1 in 20 together."""
    limits = Limits(0.0, 0.0, 0.0)
    found = sum(bool(pair(seed, limits, unsteady=0.0).regressions) for seed in range(150))
    assert found <= 10  # 5 % are 7.5; of which half are for the better


def test_processes_that_differ_by_chance_are_kept_from_failing_by_the_limit():
    """A new process may be faster or slower as a whole, which no test over rounds can know."""
    found = sum(bool(pair(seed, Limits(), unsteady=0.015).regressions) for seed in range(150))
    assert found <= 1


def test_a_fifth_slower_or_three_points_worse_is_found_all_the_same():
    slower = [pair(seed, Limits(), unsteady=0.03, slow=1.2) for seed in range(40)]
    assert sum(any("int8: p50" in line for line in item.regressions) for item in slower) >= 38
    worse = [pair(seed, Limits(), unsteady=0.03, drop=0.03) for seed in range(40)]
    assert sum(any("int8: top-1" in line for line in item.regressions) for item in worse) >= 38


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_lies_between_the_raw_p_values_and_bonferronis(p_values):
    adjusted = stats.holm(p_values)
    for raw, p in zip(p_values, adjusted, strict=True):
        assert raw <= p <= min(1.0, len(p_values) * raw)
    in_order = [adjusted[index] for index in np.argsort(p_values, kind="stable")]
    assert in_order == sorted(in_order)
    assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))


@pytest.mark.parametrize(
    ("hits1", "total1", "hits2", "total2", "low", "high"),
    [
        # Newcombe, Statistics in Medicine 17 (1998) 873-890, table II, method 10
        (56, 70, 48, 80, 0.0524, 0.3339),
        (9, 10, 3, 10, 0.1705, 0.8090),
        (5, 56, 0, 29, -0.0381, 0.1926),
        (0, 10, 0, 10, -0.2775, 0.2775),
        (10, 10, 0, 10, 0.6075, 1.0),
    ],
)
def test_the_unpaired_interval_gives_the_published_values(hits1, total1, hits2, total2, low, high):
    interval = stats.unpaired_drop_interval(stats.share_of(hits1, total1), stats.share_of(hits2, total2))
    assert (interval.low, interval.high) == (pytest.approx(100 * low, abs=0.006), pytest.approx(100 * high, abs=0.006))


@given(st.integers(1, 400), st.integers(1, 400), st.data())
def test_the_unpaired_p_and_interval_agree(total1, total2, data):
    before = stats.share_of(data.draw(st.integers(0, total1)), total1)
    after = stats.share_of(data.draw(st.integers(0, total2)), total2)
    interval, p = stats.unpaired_drop_interval(before, after), stats.unpaired_p(before, after)
    assert 0 <= p <= 1
    if abs(p - 0.05) > 1e-6:
        assert (p < 0.05) == (interval.low > 0 or interval.high < 0)


SAMPLE = st.lists(st.floats(-5, 5), min_size=1, max_size=12)


@given(SAMPLE, SAMPLE)
def test_the_shift_mirrors_and_its_interval_holds_its_estimate(first, second):
    there, back = stats.shift_between(first, second), stats.shift_between(second, first)
    assert there.p == pytest.approx(back.p)
    assert there.estimate == pytest.approx(-back.estimate)
    assert there.smallest_p <= there.p <= 1
    if there.interval is not None:
        assert there.interval.low <= there.estimate <= there.interval.high


@pytest.mark.parametrize(("first", "second"), [(3, 3), (4, 9), (20, 20), (50, 7), (60, 20), (120, 80)])
def test_the_shift_has_the_p_value_that_scipy_has_and_an_interval_that_agrees_with_it(first, second):
    from scipy.stats import mannwhitneyu

    rng = np.random.default_rng(first * second)
    for difference in (0.0, 0.4, 0.8, 3.0):
        before, after = rng.standard_normal(first), difference + rng.standard_normal(second)
        found = stats.shift_between(before.tolist(), after.tolist())
        method = "exact" if max(first, second) <= 50 else "asymptotic"
        assert found.p == pytest.approx(mannwhitneyu(before, after, method=method).pvalue, rel=1e-6)
        is_beyond = found.interval is not None and not found.interval.low <= 0 <= found.interval.high
        assert is_beyond == (found.p <= 0.05)


def test_three_rounds_on_a_side_prove_nothing():
    found = stats.shift_between([1.0, 1.1, 1.2], [9.0, 9.1, 9.2])
    assert (found.interval, found.p) == (None, pytest.approx(0.1))


@pytest.mark.parametrize("values", [[], [float("nan")], [float("inf"), 1.0]])
def test_the_shift_refuses_what_is_no_sample(values):
    with pytest.raises(ValueError, match="finite"):
        stats.shift_between(values, [1.0])


@pytest.mark.parametrize(
    ("first", "second", "apart"), [((1, 2), (3, 4), True), ((3, 4), (1, 2), True), ((1, 3), (3, 4), False)]
)
def test_intervals_apart_do_not_touch(first, second, apart):
    assert stats.intervals_apart(stats.Interval(*first), stats.Interval(*second)) is apart


def test_images_are_known_again_in_another_folder_and_another_order():
    before = Answers(("/data/old/cat/1.jpg", "/data/old/dog/1.jpg"), ("cat", "dog"), {})
    moved = Answers(("new/dog/1.jpg", "new/./cat/1.jpg"), ("dog", "cat"), {})
    np.testing.assert_array_equal(same_order(before, moved), [1, 0])
    for files, truth in (
        (("new/dog/2.jpg", "new/cat/1.jpg"), ("dog", "cat")),
        (("new/dog/1.jpg", "new/cat/1.jpg"), ("cat", "dog")),
        (("new/cat/1.jpg",), ("cat",)),
    ):
        assert same_order(before, Answers(files, truth, {})) is None


def test_a_hash_tells_more_than_a_name_unless_images_are_there_twice():
    before = Answers(("a.jpg", "b.jpg"), ("cat", "dog"), {}, ("1" * 64, "2" * 64))
    renamed = Answers(("x.jpg", "y.jpg"), ("dog", "cat"), {}, ("2" * 64, "1" * 64))
    np.testing.assert_array_equal(same_order(before, renamed), [1, 0])
    twice = Answers(("b.jpg", "a.jpg"), ("dog", "cat"), {}, ("1" * 64, "1" * 64))
    original = replace(twice, files=("a.jpg", "b.jpg"), truth=("cat", "dog"))
    np.testing.assert_array_equal(same_order(original, twice), [1, 0])


@given(st.permutations(range(6)))
def test_pairing_finds_every_order(order):
    files = tuple(f"photos/{index}.jpg" for index in range(6))
    before = Answers(files, tuple("ababab"), {"m": tuple("aabbab")})
    after = Answers(
        tuple(files[index] for index in order),
        tuple(before.truth[index] for index in order),
        {"m": tuple(before.by_subject["m"][index] for index in order)},
    )
    found = same_order(before, after)
    assert found is not None
    assert after.right("m")[found].tolist() == before.right("m").tolist()
