"""Latency, stages, memory and noise, as embedded SVG."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.plan import KERAS_FUNCTION
from benchmarks.records.report import Report
from benchmarks.report.table import is_keras, measured
from benchmarks.report.wording import significant
from benchmarks.statistics import percentile
from edge_runtime.reporting.canvas import (
    ARTIFACT,
    COLORS,
    FOURTH,
    KERAS,
    SECOND,
    THIRD,
    WIDE,
    house_style,
    new_figure,
    new_rows,
    svg_url,
)

_BINS = 80
_NARROWEST, _WIDEST = 1.25, 3.0
_STAGES = (("decode", FOURTH), ("preprocess", THIRD), ("invoke", ARTIFACT), ("postprocess", SECOND))


def latency_plot(report: Report, latencies_ms: Mapping[str, Sequence[Sequence[float]]]) -> str | None:
    """How often each latency came, against the subject's own p50; None where there is nothing to draw.

    Against the own p50, because otherwise one slow model would press all others into lines.

    Args:
        report: Says which subjects, in which order.
        latencies_ms: Every timed call, by subject and round.
    """
    calls = [
        (subject, [call for burst in latencies_ms.get(subject.name, ()) for call in burst])
        for subject, _ in measured(report)
    ]
    calls = [(subject, own) for subject, own in calls if own]
    if not calls:
        return None
    import numpy as np

    with house_style():
        middles = [percentile(own, 50) for _, own in calls]
        names = [f"{subject.name}, {significant(p50)} ms" for (subject, _), p50 in zip(calls, middles, strict=True)]
        figure, axes = new_rows(names, "latency of a call, times the p50", row_inches=0.36)
        tails = [percentile(own, 99) / p50 for (_, own), p50 in zip(calls, middles, strict=True)]
        low = min(min(own) / p50 for (_, own), p50 in zip(calls, middles, strict=True))
        ends = max(0.0, low - 0.02), min(_WIDEST, max(_NARROWEST, 1.05 * max(tails)))
        for row, ((subject, own), p50) in enumerate(zip(calls, middles, strict=True)):
            multiples = np.asarray(own) / p50
            counts, edges = np.histogram(multiples, bins=_BINS, range=ends)
            color = KERAS if is_keras(subject) else ARTIFACT
            heights = 0.75 * counts / max(1, counts.max())
            axes.stairs(row + 0.3 - heights, edges, baseline=row + 0.3, fill=True, color=color, alpha=0.45)
            for percent, style in ((50, "-"), (90, "--"), (99, ":")):
                x = percentile(own, percent) / p50
                axes.plot([x, x], [row - 0.4, row + 0.3], color=color, linestyle=style, linewidth=1.4)
        axes.set_xlim(*ends)
        return svg_url(figure)


def stages_plot(report: Report) -> str | None:
    """Stacked bars of the stages; a bar that is far longer than the shortest is cut, with its length beside it."""
    rows = [(subject, figures.stages) for subject, figures in measured(report) if figures.stages is not None]
    if not rows:
        return None
    with house_style():
        figure, axes = new_rows([subject.name for subject, _ in rows], "one picture file, ms")
        parts = [[getattr(stages, f"{name}_ms") for name, _ in _STAGES] for _, stages in rows]
        end = _bar_end([sum(part) for part in parts])
        for row, part in enumerate(parts):
            left = 0.0
            for (name, color), length in zip(_STAGES, part, strict=True):
                axes.barh(row, length, left=left, height=0.62, color=color, alpha=0.8, label=None if row else name)
                left += length
            _name_bar(axes, row, left, end, f"{significant(left)}")
        axes.set_xlim(0, end)
        figure.legend(loc="outside lower center", ncols=len(_STAGES), frameon=False, fontsize=8.5)
        return svg_url(figure)


def memory_plot(report: Report) -> str | None:
    """Peak memory, and what of it is still held after the timed calls; None where nobody knows."""
    rows = [
        (subject, figures.resources) for subject, figures in measured(report) if figures.resources.peak_memory_bytes
    ]
    if not rows:
        return None
    with house_style():
        figure, axes = new_rows([subject.name for subject, _ in rows], "resident memory, MB")
        peaks = [(resources.peak_memory_bytes or 0) / 1e6 for _, resources in rows]
        end = 1.18 * max(peaks)
        for row, ((subject, resources), peak) in enumerate(zip(rows, peaks, strict=True)):
            color = KERAS if is_keras(subject) else ARTIFACT
            axes.barh(row, peak, height=0.62, color=color, alpha=0.35)
            if resources.steady_memory_bytes is not None:
                axes.barh(row, resources.steady_memory_bytes / 1e6, height=0.3, color=color, alpha=0.9)
            _name_bar(axes, row, peak, end, significant(peak))
        axes.set_xlim(0, end)
        return svg_url(figure)


def rounds_plot(report: Report) -> str | None:
    """Each round's speed-up against its median, which shows how noisy the machine was.

    Without Keras: each round's p50 against its median. None with fewer than two rounds.
    """
    own = {subject.name: figures.single_stream.burst_p50_ms for subject, figures in measured(report)}
    keras = own.get(KERAS_FUNCTION)
    series = {}
    for subject, figures in measured(report):
        bursts = figures.single_stream.burst_p50_ms
        if len(bursts) < 2 or (keras is not None and (is_keras(subject) or len(bursts) != len(keras))):
            continue
        values = [a / b for a, b in zip(keras, bursts, strict=True)] if keras is not None else list(bursts)
        middle = statistics.median(values)
        series[subject.name] = [100 * (value / middle - 1) for value in values]
    if not series:
        return None
    with house_style():
        what = "speed-up" if keras is not None else "p50"
        figure, axes = new_figure((5.2, 3.6), "round", f"{what} against its median, %")
        axes.axhspan(-5, 5, color=KERAS, alpha=0.12, linewidth=0)
        for index, (name, values) in enumerate(series.items()):
            style = "-" if index < len(COLORS) else "--"
            color = COLORS[index % len(COLORS)]
            axes.plot(range(1, len(values) + 1), values, style, color=color, marker=".", linewidth=1, label=name)
        _mark_sessions(axes, report.settings.rounds, max(len(values) for values in series.values()))
        axes.xaxis.get_major_locator().set_params(integer=True)
        figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8.5)
        return svg_url(figure)


def _mark_sessions(axes: Any, rounds: int, total: int) -> None:
    """A line where the processes were made anew."""
    for start in range(rounds, total, max(1, rounds)):
        axes.axvline(start + 0.5, color=KERAS, linestyle="--", linewidth=0.8)


def _bar_end(lengths: Sequence[float]) -> float:
    """Where the axis ends: after the longest bar that is not far longer than the shortest."""
    shown = [length for length in lengths if length <= WIDE * min(lengths)]
    return 1.18 * max(shown)


def _name_bar(axes: Any, row: int, length: float, end: float, text: str) -> None:
    """Write the length behind its bar, or at the edge where the bar is cut."""
    if length > end:
        axes.text(
            0.985 * end, row, f"{text} »", ha="right", va="center", fontsize=8.5, color="white", fontweight="bold"
        )
    else:
        axes.text(length + 0.012 * end, row, text, ha="left", va="center", fontsize=8.5, color="#5c6670")
