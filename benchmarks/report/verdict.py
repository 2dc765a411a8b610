"""Recommendation of the variant to ship, in plain sentences, by few rules that can be checked by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.machine import MachineRecord
from benchmarks.records import Performance, Report, SubjectResult, Verdict
from benchmarks.report.tables import ALLOWED_DROP_POINTS, FEW_IMAGES, SIGNIFICANT_P, TOO_FEW, is_undecided, span
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

SAME_SPEED = 1.05
"""Ratio of latencies below which two variants count as equally fast: two runs may differ by as much."""

_WORTH_TELLING = 0.9
_TOO_SLOW = 10
"""Latency as a multiple of the best, above which a smaller file is not mentioned."""

_WORTH_POINTS = 0.5


@dataclass(frozen=True)
class _Candidate:
    """A measured artifact, with its accuracy 0..1 and its loss against Keras in percentage points, 0 without Keras."""

    subject: SubjectResult
    figures: Performance

    @property
    def name(self) -> str:
        return self.subject.name

    @property
    def p50_ms(self) -> float:
        return self.figures.single_stream.latency.p50_ms

    @property
    def accuracy(self) -> float:
        return self.figures.accuracy.top1.fraction

    @property
    def drop_points(self) -> float:
        return self.figures.against_keras.drop_points if self.figures.against_keras else 0.0


def verdict(subjects: Sequence[SubjectResult], invalid: Sequence[str], machine: MachineRecord) -> Verdict:
    """Recommend the variant to ship here, with the reasons.

    The choice is the fastest of the artifacts that lost at most `ALLOWED_DROP_POINTS` of Keras' accuracy and are not
    significantly worse by McNemar's test. Of those that are as fast, round by round, the smallest file wins, then the
    most accurate. Without Keras, an artifact may lose as much against the most accurate artifact. With reasons in
    ``invalid``, the choice is provisional.
    """
    variant, lines = _judge(subjects, invalid, machine)
    return Verdict(variant, " ".join(lines))


def verdict_lines(report: Report) -> list[str]:
    """Split the text of a report's verdict into its statements; a text from elsewhere stays one."""
    variant, lines = _judge(report.subjects, report.invalid, report.machine)
    return lines if Verdict(variant, " ".join(lines)) == report.verdict else [report.verdict.text]


def _judge(
    subjects: Sequence[SubjectResult], invalid: Sequence[str], machine: MachineRecord
) -> tuple[str | None, list[str]]:
    """Choose the variant, and give the statements of the verdict."""
    candidates = [
        _Candidate(subject, subject.performance)
        for subject in subjects
        if subject.performance is not None and not subject.is_keras
    ]
    failed = [subject for subject in subjects if subject.performance is None]
    if not candidates:
        reasons = " ".join(f"{subject.name}: {sentence(subject.error or 'no reason given')}" for subject in failed[:3])
        return None, [f"Nothing can be recommended, because not one artifact was measured. {reasons}".rstrip()]
    eligible = [candidate for candidate in candidates if _is_good_enough(candidate, candidates)]
    if not eligible:
        return None, [_none_is_good(candidates)]
    fastest = min(eligible, key=lambda one: (one.p50_ms, one.name))
    as_fast = [one for one in eligible if one is fastest or not _is_slower(one, fastest)]
    best = min(as_fast, key=lambda one: (one.subject.bytes, -one.accuracy, one.p50_ms, one.name))
    text = [
        *_warning(best, invalid),
        _choice(best, as_fast, eligible, machine),
        *_accuracy(best),
        *_keras_speed(best),
        *_rejected(best, candidates, eligible),
        *_trade_offs(best, eligible),
        *_unknown(subjects, failed),
    ]
    return best.name, text


def _is_good_enough(one: _Candidate, candidates: Sequence[_Candidate]) -> bool:
    against = one.figures.against_keras
    if against is None:
        most = max(other.accuracy for other in candidates)
        return 100 * (most - one.accuracy) <= ALLOWED_DROP_POINTS + 1e-9
    is_significantly_worse = against.lost > against.gained and against.mcnemar_p < SIGNIFICANT_P
    return against.drop_points <= ALLOWED_DROP_POINTS + 1e-9 and not is_significantly_worse


def _is_slower(one: _Candidate, fastest: _Candidate) -> bool:
    """Tell whether a candidate is slower than the fastest by more than two runs may differ, and with certainty."""
    own, least = one.figures.single_stream.burst_p50_ms, fastest.figures.single_stream.burst_p50_ms
    if not own or len(own) != len(least):
        return one.p50_ms >= SAME_SPEED * fastest.p50_ms
    ratio = ratio_of(own, least)
    return ratio.median >= SAME_SPEED and (ratio.interval is None or ratio.interval.low > 1)


def _none_is_good(candidates: Sequence[_Candidate]) -> str:
    closest = min(candidates, key=lambda one: (one.drop_points, one.p50_ms, one.name))
    against = closest.figures.against_keras
    p_text = f", McNemar p {p_value(against.mcnemar_p)}" if against else ""
    return (
        f"Nothing can be recommended: every artifact lost more than {ALLOWED_DROP_POINTS:g} point of Keras' accuracy, "
        f"or is significantly worse than Keras. The closest is {closest.name}, which lost {closest.drop_points:.1f} "
        f"points on {counted(closest.figures.accuracy.top1.total, 'image')}{p_text}. Convert again with more "
        "calibration images or with repair, or ship a float32 export, which keeps Keras' accuracy but is larger."
    )


def _warning(best: _Candidate, invalid: Sequence[str]) -> list[str]:
    speedup = best.figures.single_stream.speedup
    if invalid:
        reasons = " ".join(map(sentence, invalid))
        return [f"Provisional, because the latencies of this run must not be quoted: {reasons} Measure again."]
    if speedup is not None and is_noisy(speedup):
        return ["Provisional, because the machine was too noisy for figures that hold within 5 %; measure again."]
    return []


def _choice(
    best: _Candidate, as_fast: Sequence[_Candidate], eligible: Sequence[_Candidate], machine: MachineRecord
) -> str:
    p50 = f"{significant(best.p50_ms)} ms per image (p50), {megabytes(best.subject.bytes)}"
    where = f"Ship {best.name} on this machine ({one_line(machine.cpu_model)}): {p50}."
    others = [one.name for one in as_fast if one is not best]
    if others:
        verb = "is" if len(others) == 1 else "are"
        return f"{where} {joined(others)} {verb} not measurably faster, so the smallest file among them wins."
    if len(eligible) == 1:
        return f"{where} It is the only artifact here that is accurate enough."
    return f"{where} It is the fastest of the {len(eligible)} artifacts that are accurate enough."


def _accuracy(best: _Candidate) -> list[str]:
    top1, against = best.figures.accuracy.top1, best.figures.against_keras
    interval = percent_range(top1.low, top1.high)
    right = f"It is right on {percent(top1.fraction)} of {counted(top1.total, 'image')} ({interval})"
    few = [f"{TOO_FEW.capitalize()}: measure on more than {top1.total}."] if top1.total < FEW_IMAGES else []
    if against is None:
        return [f"{right}; it was not compared with the Keras model, so the loss by the export is unknown.", *few]
    drop = against.drop_points
    change = "as often as Keras" if not drop else f"{abs(drop):.1f} points {'less' if drop > 0 else 'more'} than Keras"
    if against.drop_interval_points.high > ALLOWED_DROP_POINTS:
        loss = f"a loss of up to {against.drop_interval_points.high:.1f} points on other images"
        few = [f"{TOO_FEW.capitalize()}: {loss} is not ruled out."]
    result = "a significant difference" if against.mcnemar_p < SIGNIFICANT_P else "no significant difference"
    return [
        f"{right}, {change} (McNemar p {p_value(against.mcnemar_p)}: {result}), "
        f"and agrees with Keras on {percent(against.agreement.fraction)}.",
        *few,
    ]


def _keras_speed(best: _Candidate) -> list[str]:
    speedup = best.figures.single_stream.speedup
    if speedup is None:
        return []
    if speedup.median < 1:
        return [
            f"It takes {significant(1 / speedup.median)} times as long as Keras as a compiled function here; its "
            "advantages are a short start, less memory and no TensorFlow."
        ]
    interval = f" ({span(speedup.interval)})" if speedup.interval else ""
    return [f"It is {significant(speedup.median)} times{interval} as fast as Keras as a compiled function."]


def _rejected(best: _Candidate, candidates: Sequence[_Candidate], eligible: Sequence[_Candidate]) -> list[str]:
    """Explain why faster candidates are not recommended."""
    lines = []
    for one in (one for one in candidates if one not in eligible and one.p50_ms < best.p50_ms):
        against, why = one.figures.against_keras, f"is right on only {percent(one.accuracy)}"
        if against is not None:
            why = f"lost {against.drop_points:.1f} points (McNemar p {p_value(against.mcnemar_p)})"
            why += f", with {TOO_FEW} for certain" if is_undecided(one.figures) else ""
        lines.append(f"{one.name} is faster ({significant(one.p50_ms)} ms) but {why}.")
    return lines


def _trade_offs(best: _Candidate, eligible: Sequence[_Candidate]) -> list[str]:
    """Name candidates that are clearly smaller, need clearly less memory, or are more accurate, unless far slower."""
    lines = []
    eligible = [one for one in eligible if one.p50_ms <= _TOO_SLOW * best.p50_ms]
    least_bytes = min(one.subject.bytes for one in eligible)
    small = [one for one in eligible if _WORTH_TELLING * one.subject.bytes <= least_bytes]
    smallest = min(small, key=lambda one: (one.p50_ms, one.subject.bytes))
    if 0 < smallest.subject.bytes < _WORTH_TELLING * best.subject.bytes:
        size = megabytes(smallest.subject.bytes)
        lines.append(f"If size matters more, {smallest.name} takes {size} at {significant(smallest.p50_ms)} ms.")
    known = [(one.figures.resources.peak_memory_bytes, one) for one in eligible]
    peaks = [(peak, one) for peak, one in known if peak is not None]
    own = best.figures.resources.peak_memory_bytes
    if peaks and own is not None:
        peak, least = min(peaks, key=lambda pair: (pair[0], pair[1].p50_ms))
        if peak < _WORTH_TELLING * own:
            lines.append(
                f"If memory matters more, {least.name} peaks at {megabytes(peak)} instead of {megabytes(own)}, "
                f"at {significant(least.p50_ms)} ms."
            )
    most = max(eligible, key=lambda one: (one.accuracy, -one.p50_ms))
    if 100 * (most.accuracy - best.accuracy) >= _WORTH_POINTS:
        extra = most.figures.accuracy.top1.hits - best.figures.accuracy.top1.hits
        lines.append(f"{most.name} was right on {counted(extra, 'more image')}, at {significant(most.p50_ms)} ms.")
    return lines


def _unknown(subjects: Sequence[SubjectResult], failed: Sequence[SubjectResult]) -> list[str]:
    """List the comparisons that are missing."""
    lines = []
    artifacts = [one_line(subject.name) for subject in failed if not subject.is_keras]
    if artifacts:
        lines.append(f"Not measured, and so not compared: {joined(artifacts)}.")
    keras = [subject for subject in subjects if subject.is_keras]
    if not keras:
        lines.append("Keras was not measured (--keras RUN would), so there is no speed-up and no test against it.")
    elif all(subject.performance is None for subject in keras):
        lines.append("Keras could not be measured, so there is no speed-up and no test against it.")
    return lines
