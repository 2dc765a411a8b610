"""The rules of the verdict, one by one."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.report.verdict import verdict
from support.reports import SAMPLES, Sample, sample_report, with_figures

KERAS = Sample("keras-function", 4.0)


def judge(*samples, invalid=(), **options):
    report = sample_report(samples, **options)
    return verdict(report.subjects, invalid, report.machine)


def check(found, variant, *texts):
    assert found.variant == variant
    assert [text for text in texts if text not in found.text] == []


def test_the_fastest_of_those_that_are_accurate_enough_wins():
    found = judge(*SAMPLES)
    assert found.text.startswith("Ship int8 on this machine (Sample chip): 0.5")
    texts = ["fastest of the 7 artifacts", "int8-per-tensor is faster", "lost 11.6 points (McNemar p < 0.001)"]
    check(found, "int8", *texts, "Not measured, and so not compared: edgetpu.")


def test_the_verdict_is_the_same_each_time_and_in_any_order():
    report = sample_report()
    first = verdict(report.subjects, (), report.machine)
    assert verdict(report.subjects, (), report.machine) == first
    assert verdict(report.subjects[::-1], (), report.machine).variant == first.variant


def test_equally_fast_ones_are_told_apart_by_size_then_by_accuracy():
    found = judge(KERAS, Sample("float32", 0.50, 2_000_000), Sample("float16", 0.505, 1_000_000))
    check(found, "float16", "float32 is not measurably faster")
    assert judge(KERAS, Sample("a", 0.50, 9_000, lost=2), Sample("b", 0.50, 9_000, lost=1)).variant == "b"


def test_noise_makes_two_equally_fast():
    quiet = (KERAS, Sample("big", 0.50, 9_000), Sample("small", 0.60, 8_000))
    check(judge(*quiet), "big")
    noisy = judge(*(dataclasses.replace(sample, noise=0.6) for sample in quiet))
    check(noisy, "small", "Provisional, because the machine was too noisy")
    assert noisy.text.startswith("Provisional")


def test_rounds_that_do_not_match_are_compared_by_p50():
    report = sample_report((KERAS, Sample("big", 0.5, 9), Sample("small", 0.6, 8)))
    for subject, figures in report.measured():
        stream = dataclasses.replace(figures.single_stream, burst_p50_ms=())
        report = with_figures(report, subject.name, single_stream=stream)
    assert verdict(report.subjects, (), report.machine).variant == "big"


@pytest.mark.parametrize(
    ("lost", "gained", "is_shipped"),
    [(0, 0, True), (1, 0, True), (2, 0, True), (3, 0, False), (12, 10, True), (14, 11, False), (0, 6, True)],
)
def test_at_most_one_point_may_be_lost(lost, gained, is_shipped):
    found = judge(KERAS, Sample("int8", 0.5, lost=lost, gained=gained), images=200, keras_right=180)
    assert found.variant == ("int8" if is_shipped else None)


def test_a_small_but_significant_loss_is_not_shipped():
    found = judge(KERAS, Sample("int8", 0.5, lost=8), Sample("float32", 0.9), images=1000, keras_right=950, calls=2)
    check(found, "float32", "int8 is faster (0.5", "lost 0.8 points (McNemar p 0.008)")


def test_a_significant_gain_is_no_reason_against():
    found = judge(KERAS, Sample("int8", 0.5, gained=10), images=200, keras_right=180)
    check(found, "int8", "5.0 points more than Keras")


def test_where_all_lost_too_much_nothing_is_shipped():
    found = judge(KERAS, Sample("int8", 0.5, lost=30), Sample("int16x8", 0.9, lost=20))
    check(found, None, "The closest is int16x8, which lost 8.0 points")


def test_without_keras_the_most_accurate_sets_the_mark():
    found = judge(Sample("float32", 0.9), Sample("int8", 0.5, lost=2), Sample("dynamic", 0.4, lost=20))
    check(
        found,
        "int8",
        "it was not compared with the Keras model",
        "Keras was not measured (--keras RUN would)",
        "dynamic is faster",
    )
    assert "as fast as Keras" not in found.text


def test_a_keras_that_failed_is_said():
    found = judge(Sample("keras-function", 4.0, error="died"), Sample("int8", 0.5))
    check(found, "int8", "Keras could not be measured")


def test_where_nothing_is_measured_nothing_is_recommended():
    found = judge(KERAS, Sample("int8", 0.5, error="the file is broken\nsecond line"))
    check(found, None, "not one artifact was measured", "int8: the file is broken second line.")
    assert "\n" not in found.text
    assert judge(KERAS).variant is judge().variant is None


def test_an_invalid_run_is_provisional():
    found = judge(KERAS, Sample("int8", 0.5), invalid=("The board was throttled",))
    assert found.variant == "int8"
    assert found.text.startswith("Provisional, because the latencies of this run must not be quoted: The board was")


def test_few_images_are_said():
    assert (
        "Too few images to tell: a loss of up to" in judge(KERAS, Sample("int8", 0.5), images=50, keras_right=48).text
    )
    assert "Too few images to tell: measure on more than 8." in judge(Sample("int8", 0.5), images=8, keras_right=8).text
    many = judge(KERAS, Sample("int8", 0.5), images=2000, keras_right=1900, calls=2, rounds=4).text
    assert "ruled out" not in many


def test_an_artifact_slower_than_keras_is_said():
    text = judge(KERAS, Sample("int8", 8.0)).text
    assert "times as long as Keras as a compiled function" in text
    assert "only artifact here that is accurate enough" in text


def test_trade_offs_are_told_unless_they_take_ten_times_as_long():
    fast = Sample("fast", 0.5, 2_000_000, lost=2, memory_bytes=90_000_000)
    light = Sample("light", 0.9, 400_000, memory_bytes=50_000_000)
    text = judge(KERAS, fast, light).text
    assert "If size matters more, light takes 0.400 MB" in text
    assert "If memory matters more, light peaks at 50.0 MB instead of 90.0 MB" in text
    assert "light was right on 2 more images" in text
    text = judge(KERAS, fast, dataclasses.replace(light, p50_ms=6.0)).text
    assert "Ship fast" in text
    assert "matters more" not in text


@given(
    st.lists(
        st.tuples(st.sampled_from([0.4, 0.5, 2.0]), st.integers(0, 8), st.integers(0, 4), st.integers(0, 3)),
        min_size=1,
        max_size=3,
    )
)
def test_what_is_shipped_is_accurate_enough_and_nothing_accurate_is_clearly_faster(figures):
    samples = [
        Sample(f"v{i}", p50, 1000 * (1 + size), lost, gained) for i, (p50, lost, gained, size) in enumerate(figures)
    ]
    found = judge(KERAS, *samples, images=100, keras_right=90, calls=2, rounds=4)
    good = {sample.name: sample for sample in samples if sample.lost - sample.gained <= 1}
    if found.variant is None:
        assert not good
    else:
        chosen = good[found.variant]
        assert chosen.p50_ms <= 1.1 * min(sample.p50_ms for sample in good.values())
    assert "\n" not in found.text
