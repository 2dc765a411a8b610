"""The report's plots, as embedded SVG. They hold names of variants and numbers, no text from the user."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from convert.check.record import CalibrationPoint, ConversionRecord, VariantRecord

_PASSED, _FAILED, _FAINT, _SECOND = "#0b66c3", "#c62828", "#8a8f98", "#2a7d3f"
_SIZE_INCHES = (5.2, 3.8)
_MARKER_PX = 5
_LABEL_OFFSETS_PT = tuple(
    (x, y)
    for distance in (0, 12, 24, 36, 48, 60)
    for x, y in (
        (7, distance),
        (7, -distance),
        (0, 11 + distance),
        (0, -11 - distance),
        (-7, distance),
        (-7, -distance),
    )
)
# Variants that lost this many times more than any that passed are drawn at the lower edge.
_OUTLIER = 3.0
_LEAST_SPAN_POINTS = 0.5
# Largest against smallest latency from which on the axis goes by powers.
_WIDE = 8


def size_plot(record: ConversionRecord) -> str:
    """Accuracy against size of the file."""
    return _scatter(record, record.variants, lambda variant: variant.artifact.bytes / 1e6, "size of the file, MB")


def latency_plot(record: ConversionRecord) -> str:
    """Accuracy against latency on this machine, of the variants that were timed."""
    timed = [variant for variant in record.variants if variant.latency_ms > 0]
    return _scatter(record, timed, lambda variant: variant.latency_ms, "latency here, ms")


def calibration_plot(points: Sequence[CalibrationPoint]) -> str:
    """Accuracy of int8, and its agreement with Keras, against the number of calibration pictures."""
    figure, axes = _figure("calibration pictures", "percent")
    images = [point.images for point in points]
    for name, color, marker in (("accuracy", _PASSED, "o"), ("agreement", _SECOND, "s")):
        axes.plot(images, [100 * getattr(point, name) for point in points], color=color, marker=marker, label=name)
    axes.set_xscale("log")
    axes.set_xticks(images, [str(count) for count in images])
    axes.minorticks_off()
    axes.legend(frameon=False, fontsize=9)
    return _svg_url(figure)


def _scatter(
    record: ConversionRecord, variants: Sequence[VariantRecord], x_of: Callable[[VariantRecord], float], xlabel: str
) -> str:
    figure, axes = _figure(xlabel, "accuracy, %")
    keras = 100 * variants[0].comparison.check.keras_accuracy
    floor = _floor(record, variants, keras)
    points = [
        _Point(x_of(variant), max(floor, 100 * variant.comparison.check.accuracy), variant) for variant in variants
    ]
    for point in points:
        low, high = point.variant.comparison.drop_interval_points
        ends = [max(floor, keras - high), max(floor, keras - low)]
        axes.plot([point.x] * 2, ends, color=point.color, alpha=0.25, linewidth=2, solid_capstyle="butt")
        marker = "v" if point.y == floor else "o" if point.has_passed else "X"
        axes.plot([point.x], [point.y], color=point.color, marker=marker, markersize=7, linestyle="")
    axes.axhline(keras, color=_FAINT, linestyle="--", linewidth=1, label="Keras")
    axes.axhline(keras - record.max_drop_points, color=_FAILED, linestyle=":", linewidth=1, label="the gate")
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    _set_x_axis(axes, [point.x for point in points])
    axes.margins(y=0.14)
    _place_labels(figure, axes, points, floor)
    return _svg_url(figure)


def _set_x_axis(axes: Any, values: Sequence[float]) -> None:
    """From zero on; where one value would press the others together, by powers."""
    if max(values) < _WIDE * min(values):
        axes.set_xlim(0, 1.2 * max(values))
        return
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axes.set_xscale("log")
    axes.set_xlim(0.6 * min(values), 2.0 * max(values))
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


@dataclass(frozen=True)
class _Point:
    """Where a variant is drawn; ``y`` is accuracy in percent, or the lower edge of the plot."""

    x: float
    y: float
    variant: VariantRecord

    @property
    def has_passed(self) -> bool:
        return self.variant.comparison.check.passed

    @property
    def color(self) -> str:
        return _PASSED if self.has_passed else _FAILED


def _floor(record: ConversionRecord, variants: Sequence[VariantRecord], keras: float) -> float:
    """The lowest accuracy that has its place in the plot, so that a bad variant does not press the others together."""
    losses = [entry.comparison.drop_points for entry in variants if entry.comparison.check.passed]
    return max(0.0, keras - _OUTLIER * max([_LEAST_SPAN_POINTS, record.max_drop_points, *losses]))


def _place_labels(figure: Any, axes: Any, points: Sequence[_Point], floor: float) -> None:
    """Write each variant's name beside its point, where it covers neither another name nor a point."""
    from matplotlib.patheffects import withStroke

    figure.canvas.draw()
    frame = axes.get_window_extent()
    centers = [axes.transData.transform((point.x, point.y)) for point in points]
    taken = [_box(x - _MARKER_PX, y - _MARKER_PX, x + _MARKER_PX, y + _MARKER_PX) for x, y in centers]
    for point in sorted(points, key=lambda point: point.x):
        text = point.variant.artifact.variant.value
        if point.y == floor:
            text += f", {100 * point.variant.comparison.check.accuracy:.1f} %"
        label = axes.annotate(
            text, (point.x, point.y), (0, 0), textcoords="offset points", fontsize=9, color=point.color,
            arrowprops={"arrowstyle": "-", "color": point.color, "alpha": 0.4, "linewidth": 0.7, "shrinkB": 3},
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
        )  # fmt: skip
        for offset in _LABEL_OFFSETS_PT:
            label.set_position(offset)
            label.set_horizontalalignment("left" if offset[0] > 0 else "right" if offset[0] < 0 else "center")
            label.set_verticalalignment("center")
            box = _text_box(label)
            inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
            if inside and not any(box.overlaps(other) for other in taken):
                break
        taken.append(_text_box(label))


def _text_box(label: Any) -> Any:
    """Where the words are, without the line to the point."""
    from matplotlib.text import Text

    label.update_positions(label.figure.canvas.get_renderer())
    return Text.get_window_extent(label)


def _box(x0: float, y0: float, x1: float, y1: float) -> Any:
    from matplotlib.transforms import Bbox

    return Bbox.from_extents(x0, y0, x1, y1)


def _figure(xlabel: str, ylabel: str) -> tuple[Any, Any]:
    # No pyplot: it keeps figures in a list of its own and asks for a display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE_INCHES, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    return figure, axes


def _svg_url(figure: Any) -> str:
    import matplotlib

    buffer = io.BytesIO()
    # A fixed salt and no date: the same conversion gives the same bytes.
    with matplotlib.rc_context({"svg.hashsalt": "edgekit"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()
