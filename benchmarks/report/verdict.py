"""Which variant to ship, in plain words. The rules are few, so that a reader can check them by hand."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.machine import MachineRecord
from benchmarks.plan import KERAS_SUBJECTS
from benchmarks.records.accuracy import AgainstKeras
from benchmarks.records.performance import SubjectResult
from benchmarks.records.report import Verdict
from benchmarks.report.verdict_words import (
    ALLOWED_DROP_POINTS,
    SIGNIFICANT_P,
    Candidate,
    accuracy,
    choice,
    keras_speed,
    none_is_good,
    rejected,
    trade_offs,
    unknown,
    warning,
)
from benchmarks.report.wording import sentence
from benchmarks.statistics import ratio_of

SAME_SPEED = 1.05
"""Below this ratio of latencies two variants count as equally fast: two runs may differ by as much."""


def verdict(subjects: Sequence[SubjectResult], invalid: Sequence[str], machine: MachineRecord) -> Verdict:
    """The variant to ship here, and why.

    The fastest of the artefacts that lost at most `ALLOWED_DROP_POINTS` of Keras' accuracy and are not significantly
    worse by McNemar's test. Of those that are as fast, round by round, the smallest file, then the most accurate.
    Without Keras: at most that much less accurate than the most accurate artefact.

    Args:
        subjects: Of the report.
        invalid: Why the latencies are not to be quoted.
        machine: Where they were measured.
    """
    candidates = [
        Candidate(subject, subject.performance)
        for subject in subjects
        if subject.performance is not None and subject.name not in KERAS_SUBJECTS
    ]
    failed = [subject for subject in subjects if subject.performance is None]
    if not candidates:
        reasons = " ".join(f"{subject.name}: {sentence(subject.error or 'no reason given')}" for subject in failed[:3])
        return Verdict(None, f"Nothing can be recommended, because not one artefact was measured. {reasons}".rstrip())
    eligible = [candidate for candidate in candidates if _is_good_enough(candidate, candidates)]
    if not eligible:
        return Verdict(None, none_is_good(candidates))
    as_fast = _as_fast_as_the_fastest(eligible)
    best = min(as_fast, key=lambda one: (one.subject.bytes, -one.accuracy, one.p50_ms, one.name))
    text = [
        *warning(best, invalid),
        choice(best, as_fast, eligible, machine),
        accuracy(best),
        *keras_speed(best),
        *rejected(best, candidates, eligible),
        *trade_offs(best, eligible),
        *unknown(subjects, failed),
    ]
    return Verdict(best.name, " ".join(text))


def _is_good_enough(one: Candidate, candidates: Sequence[Candidate]) -> bool:
    against = one.figures.against_keras
    if against is None:
        most = max(other.accuracy for other in candidates)
        return 100 * (most - one.accuracy) <= ALLOWED_DROP_POINTS + 1e-9
    return against.drop_points <= ALLOWED_DROP_POINTS + 1e-9 and not _is_significantly_worse(against)


def _is_significantly_worse(against: AgainstKeras) -> bool:
    return against.lost > against.gained and against.mcnemar_p < SIGNIFICANT_P


def _as_fast_as_the_fastest(eligible: Sequence[Candidate]) -> list[Candidate]:
    fastest = min(eligible, key=lambda one: (one.p50_ms, one.name))
    return [one for one in eligible if one is fastest or not _is_slower(one, fastest)]


def _is_slower(one: Candidate, fastest: Candidate) -> bool:
    """Whether it takes longer than the fastest by more than two runs may differ, and surely."""
    own, least = one.figures.single_stream.burst_p50_ms, fastest.figures.single_stream.burst_p50_ms
    if not own or len(own) != len(least):
        return one.p50_ms >= SAME_SPEED * fastest.p50_ms
    ratio = ratio_of(own, least)
    return ratio.median >= SAME_SPEED and (ratio.interval is None or ratio.interval.low > 1)
