"""The arithmetic of a benchmark report."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from benchmarks import statistics as stats

BURSTS = st.lists(st.lists(st.integers(1, 10**12), max_size=40), min_size=1, max_size=12).filter(any)
ROUNDS = st.lists(st.tuples(*[st.floats(1e-6, 1e6)] * 2), min_size=1, max_size=30)


@given(st.integers(1, 100_000).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total))))
def test_wilson_interval_holds_the_share_within_0_and_1_and_is_symmetric_in_hits_and_misses(counts):
    share = stats.share_of(*counts)
    assert 0.0 <= share.low <= share.fraction <= share.high <= 1.0
    assert share.low < share.high
    misses = stats.share_of(share.total - share.hits, share.total)
    assert (misses.low, misses.high) == (pytest.approx(1 - share.high), pytest.approx(1 - share.low))


@pytest.mark.parametrize(
    ("percent", "expected"), [(5, 15), (30, 20), (40, 20), (50, 35), (90, 50), (99, 50), (100, 50)]
)
def test_percentile_is_the_nearest_rank(percent, expected):
    assert stats.percentile([50, 15, 40, 20, 35], percent) == expected


@given(st.lists(st.floats(-1e9, 1e9), min_size=1), st.floats(0.001, 100))
def test_percentile_is_a_measured_value_that_enough_values_do_not_exceed(values, percent):
    found = stats.percentile(values, percent)
    assert found in values
    assert sum(value <= found for value in values) >= percent / 100 * len(values) * (1 - 1e-12)


@pytest.mark.parametrize(("values", "percent"), [([], 50), ([1.0], 0), ([1.0], 101)])
def test_percentile_refuses_nothing_and_nonsense(values, percent):
    with pytest.raises(ValueError, match="expected values"):
        stats.percentile(values, percent)


@pytest.mark.parametrize("percent", ["50", "90", "95", "99", "99.9", "100"])
@pytest.mark.parametrize("count", [1, 2, 7, 100, 200, 999, 1000, 1001, 5000, 70_000])
def test_percentile_of_a_report_has_the_exact_rank(percent, count):
    assert stats.percentile(range(1, count + 1), float(percent)) == math.ceil(Fraction(percent) * count / 100)


def test_latency_summary_comes_from_single_calls_and_not_from_their_mean():
    summary = stats.summarize_latencies([[1_000_000] * 98, [500_000_000, 2_000_000_000]])
    assert summary == stats.LatencySummary(100, 1.0, 1.0, 1.0, 500.0, None, 1.0, 2000.0, None)
    # Of a thousand calls p99.9 is the second slowest.
    assert stats.summarize_latencies([[1_000_000] * 998, [3_000_000, 9_000_000]]).p99_9_ms == 3.0
    with pytest.raises(ValueError, match="at least one call, got 2 empty bursts"):
        stats.summarize_latencies([[], []])


@pytest.mark.parametrize(("count", "has"), [(99, (False, False)), (100, (True, False)), (1000, (True, True))])
def test_high_percentiles_need_as_many_calls_as_they_divide(count, has):
    summary = stats.summarize_latencies([list(range(1, count + 1))])
    assert (summary.p99_ms is not None, summary.p99_9_ms is not None) == has


@given(BURSTS, st.integers(0, 9))
@settings(max_examples=60)
def test_latency_summary_is_ordered_and_its_interval_holds_the_median(bursts, seed):
    summary = stats.summarize_latencies(bursts, seed)
    rising = [summary.minimum_ms, summary.p50_ms, summary.p90_ms, summary.p95_ms, summary.p99_ms, summary.p99_9_ms]
    rising = [value for value in (*rising, summary.maximum_ms) if value is not None]
    assert rising == sorted(rising)
    calls_ms = {call / 1e6 for burst in bursts for call in burst}
    assert set(rising) <= calls_ms
    assert (summary.p50_interval_ms is None) == (sum(map(bool, bursts)) < 3)
    if summary.p50_interval_ms:
        assert summary.p50_interval_ms.low <= summary.p50_ms <= summary.p50_interval_ms.high
        assert {summary.p50_interval_ms.low, summary.p50_interval_ms.high} <= calls_ms
    assert stats.summarize_latencies(bursts, seed) == summary


@given(BURSTS, st.sampled_from([2, 1000]))
@settings(max_examples=40)
def test_latency_summary_grows_with_its_latencies(bursts, factor):
    once, more = (
        stats.summarize_latencies(bursts),
        stats.summarize_latencies([[factor * call for call in b] for b in bursts]),
    )
    assert more.p50_ms == pytest.approx(factor * once.p50_ms)
    if once.p50_interval_ms and more.p50_interval_ms:
        assert more.p50_interval_ms.low == pytest.approx(factor * once.p50_interval_ms.low)
        assert more.p50_interval_ms.high == pytest.approx(factor * once.p50_interval_ms.high)


@given(st.lists(st.lists(st.integers(1, 50), min_size=1, max_size=30), min_size=3, max_size=8), st.integers(0, 99))
@settings(max_examples=40)
def test_bursts_of_any_length_are_drawn_as_if_one_by_one(bursts, seed):
    drawn = np.random.default_rng(seed).multinomial(len(bursts), [1 / len(bursts)] * len(bursts), 1999)
    medians = sorted(
        stats.percentile([call for times, burst in zip(row, bursts, strict=True) for call in burst * times], 50)
        for row in drawn.tolist()
    )
    found = stats.median_of_bursts([np.array(burst) for burst in bursts], seed)
    assert found == (medians[49], medians[-50])


def test_interval_of_the_median_holds_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    hits = 0
    for run in range(200):
        # The weather of a burst moves all of its calls; the logarithms are symmetric, so the true median is 1 ms.
        weather = rng.normal(0, 0.05, (20, 1))
        calls = np.exp(weather + rng.normal(0, 0.1, (20, 30))) * 1e6
        interval = stats.summarize_latencies(calls.astype(int).tolist(), run).p50_interval_ms
        assert interval is not None
        hits += interval.low <= 1 <= interval.high
    assert 0.87 <= hits / 200 <= 0.99


def test_calls_drawn_one_by_one_would_claim_far_too_much():
    rng = np.random.default_rng(2)
    calls = (np.exp(rng.normal(0, 0.05, (20, 1)) + rng.normal(0, 0.02, (20, 30))) * 1e6).astype(int)
    by_burst = np.subtract(*stats.median_of_bursts(list(calls), 0)[::-1])
    by_call = np.subtract(*stats.median_of_bursts(list(calls.reshape(-1, 1)), 0)[::-1])
    assert by_burst > 2 * by_call


def test_interval_of_few_values_holds_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(3)
    ends = [stats.median_of_values(rng.normal(5, 1, 20), run) for run in range(400)]
    assert 0.88 <= sum(low <= 5 <= high for low, high in ends) / 400 <= 0.99


def test_interval_of_a_series_knows_of_slow_drifts():
    rng = np.random.default_rng(4)
    held = {stats.median_of_series: 0, stats.median_of_values: 0}
    for run in range(100):
        # A machine that is up to some percent faster or slower for a fifteenth of the run at a time.
        series = np.repeat(rng.normal(0, 0.05, 15), 20) + rng.normal(0, 0.05, 300)
        for interval in held:
            low, high = interval(series, run)
            held[interval] += low <= 0 <= high
    assert held[stats.median_of_values] < 60
    assert held[stats.median_of_series] > 75


@given(arrays(np.float64, st.integers(1, 19), elements=st.floats(-5, 5)), st.integers(0, 9))
@settings(max_examples=40)
def test_a_short_series_is_drawn_value_by_value(values, seed):
    assert stats.median_of_series(values, seed) == stats.median_of_values(values, seed)


def test_ratio_is_the_median_over_rounds_and_not_a_ratio_of_medians():
    # The machine slowed down twofold for the last two rounds, for both alike.
    ratio = stats.ratio_of([10, 10, 10, 20, 20], [5, 5, 5, 10, 8])
    assert (ratio.median, ratio.rounds) == (pytest.approx(2), 5)
    assert ratio.interval == stats.Interval(pytest.approx(2), pytest.approx(2.5))
    assert not stats.is_noisy(stats.ratio_of([10, 11, 12], [5, 5.5, 6]))


@given(ROUNDS, st.integers(0, 9))
@settings(max_examples=60)
def test_ratio_the_other_way_round_is_the_reciprocal(rounds, seed):
    first, second = zip(*rounds, strict=True)
    ratio, other = stats.ratio_of(first, second, seed), stats.ratio_of(second, first, seed)
    assert other.median == pytest.approx(1 / ratio.median)
    assert (ratio.interval is None) == (other.interval is None) == (len(rounds) < 3)
    if ratio.interval and other.interval:
        assert ratio.interval.low <= ratio.median <= ratio.interval.high
        assert other.interval.low == pytest.approx(1 / ratio.interval.high)
        assert other.interval.high == pytest.approx(1 / ratio.interval.low)
    assert stats.ratio_of(first, second, seed) == ratio
    tripled = stats.ratio_of([3 * value for value in first], second, seed)
    assert tripled.median == pytest.approx(3 * ratio.median)


@pytest.mark.parametrize(
    ("reference", "own"), [([], []), ([1.0], [1.0, 2.0]), ([1.0], [0.0]), ([math.inf], [1.0]), ([1.0], [math.nan])]
)
def test_ratio_of_what_is_no_duration_is_refused(reference, own):
    with pytest.raises(ValueError, match="expected rounds of numbers above 0"):
        stats.ratio_of(reference, own)


def test_interval_of_few_rates_goes_from_the_lowest_to_the_highest_or_is_none():
    assert stats.median_interval([]) is stats.median_interval([3.0, 4.0]) is None
    assert stats.median_interval([3.0, 5.0, 4.0]) == stats.Interval(3.0, 5.0)
    assert stats.median_interval([3.0, 5.0, 4.0], seed=7) == stats.median_interval([3.0, 5.0, 4.0], seed=7)


@given(st.lists(st.floats(0.1, 1e6), min_size=3, max_size=25), st.integers(0, 9))
@settings(max_examples=60)
def test_interval_of_values_holds_their_median(values, seed):
    interval = stats.median_interval(values, seed)
    assert interval is not None
    assert min(values) <= interval.low <= float(np.median(values)) <= interval.high <= max(values)


@pytest.mark.parametrize("half_width", [0.3, 0.4, 0.6, None])
def test_ratio_is_noisy_when_its_interval_is_wide_or_not_known(half_width):
    ratio = stats.Ratio(10.0, stats.Interval(10 - half_width, 10 + half_width) if half_width else None, 20)
    assert stats.is_noisy(ratio) is (half_width != 0.3)
    assert stats.is_noisy(ratio, tolerance=0.5) is (half_width is None)
