"""What a reader must know before using the figures."""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks.records.report import Report
from benchmarks.report.table import is_keras, measured
from benchmarks.report.wording import counted, joined, one_line, sentence
from benchmarks.statistics import Interval, is_noisy, repeat_spread

_QUIET_WAITING = 0.05
"""Share of the timed calls spent waiting for a processor up to which a machine counts as quiet."""

_NOISY = 0.05


def caveats(report: Report) -> list[str]:
    """One plain sentence each; what makes the run invalid first."""
    return [
        *(f"The latencies are not to be quoted: {sentence(reason)}" for reason in report.invalid),
        *_not_measured(report),
        *_noise(report),
        *_keras(report),
        *_pictures(report),
        *map(sentence, report.remarks),
    ]


def _not_measured(report: Report) -> list[str]:
    """Subjects, then figures; those with the same reason share a sentence."""
    lines = [
        f"{joined(names)} {'was' if len(names) == 1 else 'were'} not measured: {sentence(reason)}"
        for reason, names in _grouped((subject.error, subject.name) for subject in report.subjects if subject.error)
    ]
    done = [subject.name for subject, _ in measured(report)]
    figures: dict[tuple[str, str], list[str]] = {}
    for subject, performance in measured(report):
        for item in performance.not_measured:
            names = figures.setdefault((item.what, item.reason), [])
            if subject.name not in names:
                names.append(subject.name)
    by_reason: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (what, reason), names in figures.items():
        by_reason.setdefault((reason, tuple(names)), []).append(one_line(what))
    for (reason, owners), whats in by_reason.items():
        whose = "any model" if len(owners) == len(done) > 1 else joined(owners)
        lines.append(f"Not measured of {whose}: {joined(whats)}: {sentence(reason)}")
    return lines


def _noise(report: Report) -> list[str]:
    lines = []
    speedups = [(subject.name, figures.single_stream.speedup) for subject, figures in measured(report)]
    noisy = [(name, ratio) for name, ratio in speedups if ratio is not None and is_noisy(ratio)]
    spreads = [(name, repeat_spread(ratio)) for name, ratio in noisy]
    wide = [f"{name} ({100 * spread:.0f} %)" for name, spread in spreads if spread is not None]
    if wide:
        lines.append(
            "The machine was too noisy: by its 95 % interval, another run may give a speed-up that differs by more "
            f"than 5 % for {joined(wide)}."
        )
    unknown = [name for name, spread in spreads if spread is None]
    if unknown:
        lines.append(f"The speed-up of {joined(unknown)} has no interval: too few rounds to say how steady it is.")
    if not any(ratio for _, ratio in speedups):
        lines += _noisy_latencies(report)
    return lines + _waiting(report)


def _waiting(report: Report) -> list[str]:
    """Who stood in the queue for a processor while timed; threads of one model queue behind one another too."""
    alone: list[str] = []
    threaded: list[str] = []
    for subject, figures in measured(report):
        share = figures.single_stream.waiting or 0.0
        if share > _QUIET_WAITING:
            has_threads = is_keras(subject) or report.settings.threads > 1
            (threaded if has_threads else alone).append(f"{subject.name} {100 * share:.0f} %")
    lines = []
    if alone:
        lines.append(
            f"Other programs had the processor for a part of the timed calls ({', '.join(alone)}): "
            "latencies and cold starts are too long; measure again on a quiet machine."
        )
    if threaded:
        lines.append(
            f"Threads waited for a processor, for one another or for other programs ({', '.join(threaded)} of the "
            "timed calls)."
        )
    return lines


def _noisy_latencies(report: Report) -> list[str]:
    """Where there are no ratios, the latencies themselves must do."""
    latencies = [(subject.name, figures.single_stream.latency) for subject, figures in measured(report)]
    wide = [
        f"{name} ({100 * _half_width(latency.p50_interval_ms, latency.p50_ms):.0f} %)"
        for name, latency in latencies
        if latency.p50_interval_ms and _half_width(latency.p50_interval_ms, latency.p50_ms) > _NOISY
    ]
    if not wide:
        return []
    return [
        f"The machine was too noisy: the 95 % interval of the p50 is wider than 5 % to either side for {joined(wide)}."
    ]


def _half_width(interval: Interval, middle: float) -> float:
    return (interval.high - interval.low) / 2 / middle


def _keras(report: Report) -> list[str]:
    if report.keras_run is None:
        return [
            "Nothing is compared with Keras (agreement, McNemar's test, speed-up, moved errors): no Keras model was "
            "given (--keras RUN)."
        ]
    keras = [subject for subject in report.subjects if is_keras(subject)]
    if not any(subject.performance for subject in keras):
        return [
            "Nothing is compared with Keras (agreement, McNemar's test, speed-up, moved errors): it was not measured."
        ]
    return []


def _pictures(report: Report) -> list[str]:
    data, lines = report.data, []
    if data.unreadable:
        total = data.images + len(data.unreadable)
        left_out = f"{len(data.unreadable)} of {counted(total, 'picture')}"
        lines.append(f"{left_out} {'was' if len(data.unreadable) == 1 else 'were'} left out as unreadable; see below.")
    if data.trained_on is None:
        lines.append("Nobody knows whether the model was trained on some of these pictures (--keras RUN would tell).")
    elif data.trained_on:
        lines.append(
            f"{data.trained_on} of {counted(data.images, 'picture')} were in the training part of the run: "
            "the accuracy says little about new pictures."
        )
    if data.part == "validation":
        lines.append(
            "The validation part was used, which chose among weights: the accuracy may flatter the model a little."
        )
    return lines


def _grouped(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, list[str]]]:
    """Names by reason, in their first order."""
    found: dict[str, list[str]] = {}
    for reason, name in pairs:
        found.setdefault(reason, []).append(one_line(name))
    return list(found.items())
