"""The arithmetic of a benchmark report."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.statistics import percentile, share_of, summarize_latencies
from edge_runtime.statistics.intervals import wilson_interval

COUNTS = st.integers(1, 100_000).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total)))


@pytest.mark.parametrize(
    ("hits", "total", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),  # Newcombe, Statistics in Medicine 17 (1998) 857-872, table I, method 3
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval_gives_the_published_values(hits: int, total: int, low: float, high: float) -> None:
    found = wilson_interval(hits, total)
    assert found == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


@given(COUNTS)
def test_wilson_interval_holds_the_share_within_0_and_1(counts: tuple[int, int]) -> None:
    share = share_of(*counts)
    assert 0.0 <= share.low <= share.fraction <= share.high <= 1.0
    assert share.low < share.high


@given(COUNTS)
def test_wilson_interval_is_symmetric_in_hits_and_misses(counts: tuple[int, int]) -> None:
    hits, total = counts
    low, high = wilson_interval(hits, total)
    assert wilson_interval(total - hits, total) == (pytest.approx(1 - high), pytest.approx(1 - low))


@pytest.mark.parametrize(("hits", "total"), [(0, 0), (-1, 4), (5, 4)])
def test_wilson_interval_refuses_impossible_counts(hits: int, total: int) -> None:
    with pytest.raises(ValueError, match="hits"):
        wilson_interval(hits, total)


@pytest.mark.parametrize(
    ("percent", "expected"), [(5, 15), (30, 20), (40, 20), (50, 35), (90, 50), (99, 50), (100, 50)]
)
def test_percentile_is_the_nearest_rank(percent: float, expected: float) -> None:
    assert percentile([50, 15, 40, 20, 35], percent) == expected


def test_percentile_ranks_whole_numbers_without_rounding_up() -> None:
    values = list(range(1, 201))
    assert [percentile(values, percent) for percent in (50, 90, 99)] == [100, 180, 198]


@given(st.lists(st.floats(-1e9, 1e9), min_size=1), st.floats(0.001, 100))
def test_percentile_is_a_measured_value_that_enough_values_do_not_exceed(values: list[float], percent: float) -> None:
    found = percentile(values, percent)
    assert found in values
    assert sum(value <= found for value in values) >= percent / 100 * len(values) * (1 - 1e-12)


@pytest.mark.parametrize(("values", "percent"), [([], 50), ([1.0], 0), ([1.0], 101)])
def test_percentile_refuses_nothing_and_nonsense(values: list[float], percent: float) -> None:
    with pytest.raises(ValueError, match="expected values"):
        percentile(values, percent)


def test_latency_summary_comes_from_single_calls_and_not_from_their_mean() -> None:
    latencies_ns = [1_000_000] * 98 + [500_000_000, 2_000_000_000]
    summary = summarize_latencies(latencies_ns)
    assert (summary.p50_ms, summary.p90_ms, summary.p99_ms) == (1.0, 1.0, 500.0)
    assert (summary.invocations, summary.minimum_ms, summary.maximum_ms) == (100, 1.0, 2000.0)
