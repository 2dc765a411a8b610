"""Advice on the variant to ship, in plain sentences. The rules are few, so that a reader can check them by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.machine import MachineRecord
from benchmarks.plan import KERAS_SUBJECTS
from benchmarks.records import AgainstKeras, Performance, SubjectResult, Verdict
from benchmarks.report.tables import span
from benchmarks.statistics import is_noisy, ratio_of
from edge_runtime.workstation.reporting.wording import (
    counted,
    joined,
    megabytes,
    one_line,
    p_value,
    percent,
    percent_range,
    sentence,
    significant,
)

ALLOWED_DROP_POINTS = 1.0
"""Accuracy that a variant may lose against Keras, or without Keras against the most accurate one, and still ship."""

SIGNIFICANT_P = 0.05

_WORTH_TELLING = 0.9
_TOO_SLOW = 10
"""Times as long as the best, above which a smaller file is no advice to somebody who asks what to ship."""

_WORTH_POINTS = 0.5
_FEW_IMAGES = 20


@dataclass(frozen=True)
class Candidate:
    """A measured artifact."""

    subject: SubjectResult
    figures: Performance

    @property
    def name(self) -> str:
        """Of the subject."""
        return self.subject.name

    @property
    def p50_ms(self) -> float:
        """Single-stream latency."""
        return self.figures.single_stream.latency.p50_ms

    @property
    def accuracy(self) -> float:
        """Top-1, 0..1."""
        return self.figures.accuracy.top1.fraction


def none_is_good(candidates: Sequence[Candidate]) -> str:
    """Why nothing can be shipped."""
    closest = min(candidates, key=lambda one: (_drop(one), one.p50_ms, one.name))
    against = closest.figures.against_keras
    lead = "Nothing can be recommended: every artifact "
    lead += f"lost more than {ALLOWED_DROP_POINTS:g} point of Keras' accuracy, or is significantly worse than Keras. "
    p_text = f", McNemar p {p_value(against.mcnemar_p)}" if against else ""
    return lead + (
        f"The closest is {closest.name}, which lost {_drop(closest):.1f} points on "
        f"{counted(closest.figures.accuracy.top1.total, 'image')}{p_text}. Convert again with more calibration "
        "images or with repair, or ship Keras' accuracy at its price, a float32 export."
    )


def _drop(one: Candidate) -> float:
    return one.figures.against_keras.drop_points if one.figures.against_keras else 0.0


def warning(best: Candidate, invalid: Sequence[str]) -> list[str]:
    """That the latencies, and so the choice, are not to be relied on."""
    speedup = best.figures.single_stream.speedup
    if invalid:
        reasons = " ".join(map(sentence, invalid))
        return [f"Provisional, because the latencies of this run are not to be quoted: {reasons} Measure again."]
    if speedup is not None and is_noisy(speedup):
        return ["Provisional, because the machine was too noisy for figures that hold within 5 %; measure again."]
    return []


def choice(best: Candidate, as_fast: Sequence[Candidate], eligible: Sequence[Candidate], machine: MachineRecord) -> str:
    """Which one, and by what rule."""
    p50 = f"{significant(best.p50_ms)} ms an image (p50), {megabytes(best.subject.bytes)}"
    where = f"Ship {best.name} on this machine ({one_line(machine.cpu_model)}): {p50}."
    others = [one.name for one in as_fast if one is not best]
    if others:
        verb = "is" if len(others) == 1 else "are"
        return f"{where} {joined(others)} {verb} not measurably faster, so the smallest file among them wins."
    if len(eligible) == 1:
        return f"{where} It is the only artifact here that is accurate enough."
    return f"{where} It is the fastest of the {len(eligible)} artifacts that are accurate enough."


def accuracy(best: Candidate) -> str:
    """How often it is right, beside Keras, and how sure that is."""
    top1, against = best.figures.accuracy.top1, best.figures.against_keras
    shown = percent_range(top1.low, top1.high)
    right = f"It is right on {percent(top1.fraction)} of {counted(top1.total, 'image')} ({shown})"
    few = f" {top1.total} images say little; measure on more." if top1.total < _FEW_IMAGES else ""
    if against is None:
        return f"{right}; it was not compared with the Keras model, so what the export cost is unknown.{few}"
    drop, interval = against.drop_points, against.drop_interval_points
    change = "as often as Keras" if not drop else f"{abs(drop):.1f} points {'less' if drop > 0 else 'more'} than Keras"
    unsure = ""
    if interval.high > ALLOWED_DROP_POINTS:
        unsure = f" So few images do not rule out a loss of up to {interval.high:.1f} points on others."
    told = "a difference" if against.mcnemar_p < SIGNIFICANT_P else "not told apart from Keras"
    return (
        f"{right}, {change} (McNemar p {p_value(against.mcnemar_p)}: {told}), "
        f"and agrees with Keras on {percent(against.agreement.fraction)}.{unsure or few}"
    )


def keras_speed(best: Candidate) -> list[str]:
    """How much faster than Keras."""
    speedup = best.figures.single_stream.speedup
    if speedup is None:
        return []
    interval = f" ({span(speedup.interval)})" if speedup.interval else ""
    if speedup.median < 1:
        return [
            f"It takes {significant(1 / speedup.median)} times as long as Keras as a compiled function here: what it "
            "saves is start, memory and TensorFlow itself."
        ]
    return [f"It is {significant(speedup.median)} times{interval} as fast as Keras as a compiled function."]


def rejected(best: Candidate, candidates: Sequence[Candidate], eligible: Sequence[Candidate]) -> list[str]:
    """Faster ones that were passed over."""
    lines = []
    for one in candidates:
        if one in eligible or one.p50_ms >= best.p50_ms:
            continue
        against = one.figures.against_keras
        why = f"is right on only {percent(one.accuracy)}"
        if against is not None:
            why = f"lost {against.drop_points:.1f} points (McNemar p {p_value(against.mcnemar_p)})"
        lines.append(f"{one.name} is faster ({significant(one.p50_ms)} ms) but {why}.")
    return lines


def trade_offs(best: Candidate, eligible: Sequence[Candidate]) -> list[str]:
    """Who is clearly smaller, clearly takes less memory, or was more often right, in a time that bears comparison."""
    lines = []
    eligible = [one for one in eligible if one.p50_ms <= _TOO_SLOW * best.p50_ms]
    least_bytes = min(one.subject.bytes for one in eligible)
    small = [one for one in eligible if _WORTH_TELLING * one.subject.bytes <= least_bytes]
    smallest = min(small, key=lambda one: (one.p50_ms, one.subject.bytes))
    if 0 < smallest.subject.bytes < _WORTH_TELLING * best.subject.bytes:
        lines.append(
            f"If size matters more, {smallest.name} takes {megabytes(smallest.subject.bytes)} at {_cost(smallest)}."
        )
    peaks = {one.name: (one.figures.resources.peak_memory_bytes, one) for one in eligible}
    known = [(peak, one) for peak, one in peaks.values() if peak is not None]
    own = best.figures.resources.peak_memory_bytes
    if known and own is not None:
        peak, least = min(known, key=lambda pair: (pair[0], pair[1].p50_ms))
        if peak < _WORTH_TELLING * own:
            lines.append(
                f"If memory matters more, {least.name} peaks at {megabytes(peak)} instead of {megabytes(own)}, "
                f"at {_cost(least)}."
            )
    most = max(eligible, key=lambda one: (one.accuracy, -one.p50_ms))
    if 100 * (most.accuracy - best.accuracy) >= _WORTH_POINTS:
        extra = most.figures.accuracy.top1.hits - best.figures.accuracy.top1.hits
        lines.append(f"{most.name} was right on {counted(extra, 'more image')}, at {_cost(most)}.")
    return lines


def _cost(one: Candidate) -> str:
    return f"{significant(one.p50_ms)} ms"


def unknown(subjects: Sequence[SubjectResult], failed: Sequence[SubjectResult]) -> list[str]:
    """What was not compared."""
    lines = []
    artifacts = [one_line(subject.name) for subject in failed if subject.name not in KERAS_SUBJECTS]
    if artifacts:
        lines.append(f"Not measured, and so not compared: {joined(artifacts)}.")
    keras = [subject for subject in subjects if subject.name in KERAS_SUBJECTS]
    if not keras:
        lines.append("Keras was not measured (--keras RUN would), so there is no speed-up and no test against it.")
    elif all(subject.performance is None for subject in keras):
        lines.append("Keras could not be measured, so there is no speed-up and no test against it.")
    return lines


SAME_SPEED = 1.05
"""Below this ratio of latencies two variants count as equally fast: two runs may differ by as much."""


def verdict(subjects: Sequence[SubjectResult], invalid: Sequence[str], machine: MachineRecord) -> Verdict:
    """The variant to ship here, and why.

    The fastest of the artifacts that lost at most `ALLOWED_DROP_POINTS` of Keras' accuracy and are not significantly
    worse by McNemar's test. Of those that are as fast, round by round, the smallest file, then the most accurate.
    Without Keras: at most that much less accurate than the most accurate artifact.

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
        return Verdict(None, f"Nothing can be recommended, because not one artifact was measured. {reasons}".rstrip())
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
