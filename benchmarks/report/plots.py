"""Plots of a report: latencies, stages, memory, rounds, and accuracy over latency."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from benchmarks.plan import KERAS_FUNCTION
from benchmarks.records import Report
from benchmarks.statistics import percentile
from edge_runtime.platform.atomic import write_atomic
from edge_runtime.workstation.reporting.plots import (
    ARTIFACT,
    COLORS,
    FOURTH,
    KERAS,
    PLOT_INCHES,
    SECOND,
    THIRD,
    WIDE,
    PointLabel,
    house_style,
    new_figure,
    new_rows,
    place_labels,
    set_axis_from_zero,
    svg,
    svg_url,
)
from edge_runtime.workstation.reporting.wording import megabytes, significant

_SIZE_INCHES, _NARROW_INCHES = (6.4, 4.4), (4.0, 4.6)
_LARGEST_AREA_PT2 = 700.0
_SMALLEST_AREA_PT2 = 14.0
_LEAST_SHOWN_POINTS = 8.0
_BINS = 80
_NARROWEST, _WIDEST = 1.25, 3.0
_STAGES = (("decode", FOURTH), ("preprocess", THIRD), ("invoke", ARTIFACT), ("postprocess", SECOND))


def latency_plot(report: Report, latencies_ms: Mapping[str, Sequence[Sequence[float]]]) -> str | None:
    """Draw the distribution of the latencies as multiples of the subject's own p50; None without latencies.

    Absolute latencies of one slow model would flatten those of all others.
    """
    every = [(subject, [*chain.from_iterable(latencies_ms.get(subject.name, ()))]) for subject, _ in report.measured()]
    calls = [(subject, own, percentile(own, 50)) for subject, own in every if own]
    if not calls:
        return None
    import numpy as np

    with house_style():
        names = [f"{subject.name}, {significant(p50)} ms" for subject, _, p50 in calls]
        figure, axes = new_rows(names, "latency of a call, times the p50", row_inches=0.36)
        tails = [percentile(own, 99) / p50 for _, own, p50 in calls]
        low = min(min(own) / p50 for _, own, p50 in calls)
        ends = max(0.0, low - 0.02), min(_WIDEST, max(_NARROWEST, 1.05 * max(tails)))
        for row, (subject, own, p50) in enumerate(calls):
            multiples = np.asarray(own) / p50
            counts, edges = np.histogram(multiples, bins=_BINS, range=ends)
            color = KERAS if subject.is_keras else ARTIFACT
            heights = 0.75 * counts / max(1, counts.max())
            axes.stairs(row + 0.3 - heights, edges, baseline=row + 0.3, fill=True, color=color, alpha=0.45)
            for percent, style in ((50, "-"), (90, "--"), (99, ":")):
                x = percentile(own, percent) / p50
                axes.plot([x, x], [row - 0.4, row + 0.3], color=color, linestyle=style, linewidth=1.4)
        axes.set_xlim(*ends)
        return svg_url(figure)


def stages_plot(report: Report) -> str | None:
    """Draw stacked bars of the stages; a bar far longer than the shortest is cut, with its length beside it."""
    rows = [(subject, figures.stages) for subject, figures in report.measured() if figures.stages is not None]
    if not rows:
        return None
    with house_style():
        figure, axes = new_rows([subject.name for subject, _ in rows], "one image file, ms")
        parts = [[getattr(stages, f"{name}_ms") for name, _ in _STAGES] for _, stages in rows]
        lengths = [sum(part) for part in parts]
        # The axis ends after the longest bar that is not far longer than the shortest.
        end = 1.18 * max(length for length in lengths if length <= WIDE * min(lengths))
        for row, part in enumerate(parts):
            left = 0.0
            for (name, color), length in zip(_STAGES, part, strict=True):
                axes.barh(row, length, left=left, height=0.62, color=color, alpha=0.8, label=None if row else name)
                left += length
            _name_bar(axes, row, left, end, f"{significant(left)}")
        axes.set_xlim(0, end)
        figure.legend(
            loc="outside lower center", ncols=len(_STAGES), frameon=False, fontsize=8.5, handlelength=1, columnspacing=1
        )
        return svg_url(figure)


def memory_plot(report: Report) -> str | None:
    """Draw the peak memory and the memory after the timed calls; None if unknown."""
    rows = [
        (subject, figures.resources) for subject, figures in report.measured() if figures.resources.peak_memory_bytes
    ]
    if not rows:
        return None
    with house_style():
        figure, axes = new_rows([subject.name for subject, _ in rows], "resident memory, MB")
        peaks = [(resources.peak_memory_bytes or 0) / 1e6 for _, resources in rows]
        end = 1.18 * max(peaks)
        for row, ((subject, resources), peak) in enumerate(zip(rows, peaks, strict=True)):
            color = KERAS if subject.is_keras else ARTIFACT
            axes.barh(row, peak, height=0.62, color=color, alpha=0.35)
            if resources.steady_memory_bytes is not None:
                axes.barh(row, resources.steady_memory_bytes / 1e6, height=0.3, color=color, alpha=0.9)
            _name_bar(axes, row, peak, end, significant(peak))
        axes.set_xlim(0, end)
        return svg_url(figure)


def rounds_plot(report: Report) -> str | None:
    """Draw each round's speed-up against its median, which shows the noise of the machine.

    Without Keras, it draws each round's p50 against its median. None with fewer than two rounds.
    """
    own = {subject.name: figures.single_stream.burst_p50_ms for subject, figures in report.measured()}
    keras = own.get(KERAS_FUNCTION)
    series = {}
    for subject, figures in report.measured():
        bursts = figures.single_stream.burst_p50_ms
        if len(bursts) < 2 or (keras is not None and (subject.is_keras or len(bursts) != len(keras))):
            continue
        values = [a / b for a, b in zip(keras, bursts, strict=True)] if keras is not None else list(bursts)
        middle = statistics.median(values)
        series[subject.name] = [100 * (value / middle - 1) for value in values]
    if not series:
        return None
    with house_style():
        what = "speed-up" if keras is not None else "p50"
        figure, axes = new_figure(PLOT_INCHES, "round", f"{what} against its median, %")
        axes.axhspan(-5, 5, color=KERAS, alpha=0.12, linewidth=0)
        for index, (name, values) in enumerate(series.items()):
            style = "-" if index < len(COLORS) else "--"
            color = COLORS[index % len(COLORS)]
            axes.plot(range(1, len(values) + 1), values, style, color=color, marker=".", linewidth=1, label=name)
        rounds = report.settings.rounds
        # A line at each restart of the processes.
        for start in range(rounds, max(len(values) for values in series.values()), max(1, rounds)):
            axes.axvline(start + 0.5, color=KERAS, linestyle="--", linewidth=0.8)
        axes.xaxis.get_major_locator().set_params(integer=True)
        figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8.5)
        return svg_url(figure)


def _name_bar(axes: Any, row: int, length: float, end: float, text: str) -> None:
    """Write the length behind its bar, or at the edge if the bar is cut."""
    if length > end:
        axes.text(
            0.985 * end, row, f"{text} »", ha="right", va="center", fontsize=8.5, color="white", fontweight="bold"
        )
    else:
        axes.text(length + 0.012 * end, row, text, ha="left", va="center", fontsize=8.5, color="#5c6670")


@dataclass(frozen=True)
class Point:
    """One model: median latency in milliseconds, accuracy with its Wilson interval in percent, and size of the file."""

    name: str
    p50_ms: float
    accuracy: float
    low: float
    high: float
    bytes: int
    is_keras: bool


def _points(report: Report) -> list[Point]:
    points = []
    for subject, figures in report.measured():
        share, p50_ms = figures.accuracy.top1, figures.single_stream.latency.p50_ms
        percents = 100 * share.fraction, 100 * share.low, 100 * share.high
        points.append(Point(subject.name, p50_ms, *percents, subject.bytes, subject.is_keras))
    return points


def pareto_front(points: Iterable[Point]) -> list[Point]:
    """Find the points that no other one beats or equals in both latency and accuracy, fastest first.

    Of two points with the same latency and accuracy the first is kept.
    """
    front: list[Point] = []
    for point in sorted(points, key=lambda point: (point.p50_ms, -point.accuracy)):
        if not front or point.accuracy > front[-1].accuracy:
            front.append(point)
    return front


def pareto_plot(report: Report, *, narrow: bool = False) -> str:
    """Draw accuracy against latency as an embedded image; ``narrow`` for a phone."""
    with house_style():
        return svg_url(_draw(_points(report), _NARROW_INCHES if narrow else _SIZE_INCHES))


def write_pareto_svg(report: Report, path: Path) -> None:
    """Write or replace the plot as an SVG file on white, as the README shows it; raises OutputError if that fails."""
    with house_style():
        write_atomic(path, svg(_draw(_points(report)), background="white"))


def _draw(points: Sequence[Point], size_inches: tuple[float, float] = _SIZE_INCHES) -> Any:
    figure, axes = new_figure(size_inches, "latency of one image (p50), ms", "accuracy, %")
    if not points:
        axes.text(0.5, 0.5, "nothing was measured", transform=axes.transAxes, ha="center")
        return figure
    # A lower accuracy is drawn at the floor of the axis, so that it does not flatten the others.
    best = max(points, key=lambda point: point.accuracy)
    floor = max(0.0, best.accuracy - max(_LEAST_SHOWN_POINTS, 2 * (best.accuracy - best.low)))
    set_axis_from_zero(axes, [point.p50_ms for point in points])
    front = pareto_front(points)
    axes.plot(
        [point.p50_ms for point in front], [max(floor, point.accuracy) for point in front],
        color=SECOND, linestyle="--", linewidth=1, drawstyle="steps-post", alpha=0.7, label="Pareto front", zorder=1,
    )  # fmt: skip
    largest = max([point.bytes for point in points] + [1])
    for point in points:
        _draw_point(axes, point, floor, largest, is_on_front=point in front)
    lows, highs = [max(floor, point.low) for point in points], [point.high for point in points]
    margin = 0.06 * max(1.0, max(highs) - min(lows))
    axes.set_ylim(min(lows) - margin, min(100 + margin, max(highs) + margin))
    _legend(axes, points, largest)
    place_labels(figure, axes, _labels(points, floor, largest))
    return figure


def _draw_point(axes: Any, point: Point, floor: float, largest: int, *, is_on_front: bool) -> None:
    color, y = KERAS if point.is_keras else ARTIFACT, max(floor, point.accuracy)
    ends = [max(floor, point.low), max(floor, point.high)]
    axes.plot([point.p50_ms] * 2, ends, color=color, alpha=0.35, linewidth=1.5)
    axes.scatter(
        [point.p50_ms], [y], s=_area_pt2(point, largest), color=color, alpha=0.55, zorder=3,
        edgecolors=SECOND if is_on_front else color, linewidths=2.2 if is_on_front else 0.8,
        marker="v" if y > point.accuracy else "o",
    )  # fmt: skip


def _area_pt2(point: Point, largest: int) -> float:
    return max(_SMALLEST_AREA_PT2, _LARGEST_AREA_PT2 * point.bytes / largest)


def _legend(axes: Any, points: Sequence[Point], largest: int) -> None:
    """Explain the colors and the size of a bubble below the plot."""
    from matplotlib.lines import Line2D

    def dot(color: str, label: str) -> Any:
        return Line2D([], [], color=color, marker="o", linestyle="", markersize=7, alpha=0.7, label=label)

    entries = [dot(ARTIFACT, "artifact")]
    if any(point.is_keras for point in points):
        entries.append(dot(KERAS, "Keras"))
    ring = Line2D([], [], color=SECOND, marker="o", markerfacecolor="none", linestyle="--", label="Pareto front")
    entries += [ring, Line2D([], [], linestyle="", label=f"area: size, largest {megabytes(largest)}")]
    columns = len(entries) if axes.figure.get_figwidth() == _SIZE_INCHES[0] else 2
    axes.figure.legend(handles=entries, loc="outside lower center", ncols=columns, frameon=False, fontsize=8.5)


def _labels(points: Sequence[Point], floor: float, largest: int) -> list[PointLabel]:
    labels = []
    for point in points:
        y = max(floor, point.accuracy)
        text = point.name if y == point.accuracy else f"{point.name}, {significant(point.accuracy)} %"
        radius_pt = (_area_pt2(point, largest) / math.pi) ** 0.5
        labels.append(PointLabel(text, point.p50_ms, y, "#5c6670" if point.is_keras else ARTIFACT, radius_pt))
    return labels
