"""The report's plots, as embedded SVG. They hold names of variants and numbers, no text from the user."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from convert.check.record import CalibrationPoint, ConversionRecord, VariantRecord
from edge_runtime.reporting.canvas import ARTIFACT, KERAS, SECOND, new_figure, set_axis_from_zero, svg_url

_FAILED = "#c62828"
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


def size_plot(record: ConversionRecord) -> str:
    """Accuracy against size of the file."""
    return _scatter(record, record.variants, lambda variant: variant.artifact.bytes / 1e6, "size of the file, MB")


def latency_plot(record: ConversionRecord) -> str:
    """Accuracy against latency on this machine, of the variants that were timed."""
    timed = [variant for variant in record.variants if variant.latency_ms > 0]
    return _scatter(record, timed, lambda variant: variant.latency_ms, "latency here, ms")


def calibration_plot(points: Sequence[CalibrationPoint]) -> str:
    """Accuracy of int8, and its agreement with Keras, against the number of calibration pictures."""
    figure, axes = new_figure(_SIZE_INCHES, "calibration pictures", "percent")
    images = [point.images for point in points]
    for name, color, marker in (("accuracy", ARTIFACT, "o"), ("agreement", SECOND, "s")):
        axes.plot(images, [100 * getattr(point, name) for point in points], color=color, marker=marker, label=name)
    axes.set_xscale("log")
    axes.set_xticks(images, [str(count) for count in images])
    axes.minorticks_off()
    axes.legend(frameon=False, fontsize=9)
    return svg_url(figure)


def _scatter(
    record: ConversionRecord, variants: Sequence[VariantRecord], x_of: Callable[[VariantRecord], float], xlabel: str
) -> str:
    figure, axes = new_figure(_SIZE_INCHES, xlabel, "accuracy, %")
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
    axes.axhline(keras, color=KERAS, linestyle="--", linewidth=1, label="Keras")
    axes.axhline(keras - record.max_drop_points, color=_FAILED, linestyle=":", linewidth=1, label="the gate")
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    set_axis_from_zero(axes, [point.x for point in points])
    axes.margins(y=0.14)
    _place_labels(figure, axes, points, floor)
    return svg_url(figure)


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
        return ARTIFACT if self.has_passed else _FAILED


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
