"""Render ``conversion.html``: one self-contained file, with plots and a gallery of flips."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convert.gate import Flip
from convert.record import CalibrationPoint, CalibrationRecord, ConversionRecord, Step, VariantRecord
from convert.report import text
from convert.report.text import recommendations
from edge_runtime.workstation.reporting import plots
from edge_runtime.workstation.reporting.pages import render_html, thumbnail_url
from edge_runtime.workstation.reporting.wording import percent

_FAILED = "#c62828"
_MARKER_RADIUS_PT = 3.6
# Variants that lost this many times more than any that passed are drawn at the lower edge.
_OUTLIER = 3.0
_LEAST_SPAN_POINTS = 0.5

MAX_TILES = 24
# Shown at 160 px, and larger on a click.
_TILE_PX = 256
# Embedded images of a page together, so that it can be mailed.
MAX_CHARACTERS = 2_200_000
_MAX_PAIRS = 12
_MAX_OPEN_CLASSES = 12


@dataclass(frozen=True)
class Plot:
    """Plot as an embedded image, with its description."""

    url: str
    text: str


@dataclass(frozen=True)
class Tile:
    """Image with a changed answer: embedded JPEG, file name, answers of Keras and the artifact."""

    jpeg_url: str
    name: str
    flip: Flip

    @property
    def is_wrong(self) -> bool:
        """True if the artifact's answer is wrong."""
        return self.flip.artifact != self.flip.truth


def render_page(
    record: ConversionRecord, check_images_nhwc_rgb_u8: NDArray[np.uint8], check_names: Sequence[str]
) -> str:
    """Render the page.

    Labels and file names come from the user's folders, so the template escapes everything.

    Args:
        record: Record of the conversion.
        check_images_nhwc_rgb_u8: uint8 [images, H, W, 3], the check images in order; may be a memmap.
        check_names: Name of each check image, such as ``cat/1.jpg``.
    """
    return render_html(
        "convert.report",
        "conversion.html",
        {
            "record": record,
            "wording": text,
            "recommendations": [f"{part[0].upper()}{part[1:]}." for part in recommendations(record)],
            "keras": record.variants[0].comparison if record.variants else None,
            # Passed, but the interval includes a loss above the gate.
            "unsure": [
                variant.artifact.variant.value
                for variant in record.passed
                if variant.comparison.drop_interval_points[1] > record.max_drop_points
            ],
            "notes": sum(len(variant.notes) for variant in record.variants),
            "plots": _plots(record),
            "steps": [(variant, _step_rows(variant.steps)) for variant in record.variants if variant.steps],
            "flips": _flips(record, flip_tiles(record, check_images_nhwc_rgb_u8, check_names)),
            **_calibration(record.calibration),
        },
    )


def calibration_plot(points: Sequence[CalibrationPoint]) -> str:
    """Plot accuracy of int8 and its agreement with Keras against the number of calibration images."""
    figure, axes = plots.new_figure(plots.PLOT_INCHES, "calibration images", "percent")
    images = [point.images for point in points]
    for name, color, marker in (("accuracy", plots.ARTIFACT, "o"), ("agreement", plots.SECOND, "s")):
        axes.plot(images, [100 * getattr(point, name) for point in points], color=color, marker=marker, label=name)
    axes.set_xscale("log")
    axes.set_xticks(images, [str(count) for count in images])
    axes.minorticks_off()
    axes.legend(frameon=False, fontsize=9)
    return plots.svg_url(figure)


def _scatter(
    record: ConversionRecord, variants: Sequence[VariantRecord], x_of: Callable[[VariantRecord], float], xlabel: str
) -> str:
    figure, axes = plots.new_figure(plots.PLOT_INCHES, xlabel, "accuracy, %")
    keras = 100 * variants[0].comparison.check.keras_accuracy
    # A variant that lost far more is drawn at the lower edge, so that it does not compress the others.
    losses = [entry.comparison.drop_points for entry in variants if entry.comparison.check.passed]
    floor = max(0.0, keras - _OUTLIER * max([_LEAST_SPAN_POINTS, record.max_drop_points, *losses]))
    points = [
        _Point(x_of(variant), max(floor, 100 * variant.comparison.check.accuracy), variant) for variant in variants
    ]
    for point in points:
        low, high = point.variant.comparison.drop_interval_points
        ends = [max(floor, keras - high), min(100.0, max(floor, keras - low))]
        axes.plot([point.x] * 2, ends, color=point.color, alpha=0.25, linewidth=2, solid_capstyle="butt")
        marker = "v" if point.y == floor else "o" if point.has_passed else "X"
        axes.plot([point.x], [point.y], color=point.color, marker=marker, markersize=7, linestyle="")
    axes.axhline(keras, color=plots.KERAS, linestyle="--", linewidth=1, label="Keras")
    axes.axhline(keras - record.max_drop_points, color=_FAILED, linestyle=":", linewidth=1, label="the gate")
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    plots.set_axis_from_zero(axes, [point.x for point in points])
    axes.margins(y=0.14)
    labels = []
    for point in points:
        accuracy = f", {percent(point.variant.comparison.check.accuracy)}" if point.y == floor else ""
        name = f"{point.variant.artifact.variant.value}{accuracy}"
        labels.append(plots.PointLabel(name, point.x, point.y, point.color, _MARKER_RADIUS_PT))
    plots.place_labels(figure, axes, labels)
    return plots.svg_url(figure)


@dataclass(frozen=True)
class _Point:
    """Position of a variant in a plot; ``y`` is accuracy in percent, or the lower edge of the plot."""

    x: float
    y: float
    variant: VariantRecord

    @property
    def has_passed(self) -> bool:
        return self.variant.comparison.check.passed

    @property
    def color(self) -> str:
        return plots.ARTIFACT if self.has_passed else _FAILED


def flip_tiles(
    record: ConversionRecord, images_nhwc_rgb_u8: NDArray[np.uint8], names: Sequence[str]
) -> list[tuple[Tile, ...]]:
    """Choose up to `MAX_TILES` images for each variant, confident wrong answers first.

    The variants take turns until the page is full. Only the images shown are read.
    """
    chosen: list[list[Tile]] = [[] for _ in record.variants]
    urls: dict[int, str] = {}
    room = MAX_CHARACTERS
    for rank in range(MAX_TILES):
        for tiles, variant in zip(chosen, record.variants, strict=True):
            if rank >= len(variant.comparison.flips):
                continue
            flip = variant.comparison.flips[rank]
            if flip.index not in urls:
                urls[flip.index] = thumbnail_url(np.asarray(images_nhwc_rgb_u8[flip.index]), side_px=_TILE_PX)
            room -= len(urls[flip.index])
            if room < 0:
                return [tuple(tiles) for tiles in chosen]
            tiles.append(Tile(urls[flip.index], names[flip.index], flip))
    return [tuple(tiles) for tiles in chosen]


def _plots(record: ConversionRecord) -> list[Plot]:
    drawn = []
    if record.variants:
        url = _scatter(record, record.variants, lambda variant: variant.artifact.bytes / 1e6, "size of the file, MB")
        drawn.append(Plot(url, "Accuracy against size of the file"))
    if timed := [variant for variant in record.variants if variant.latency_ms > 0]:
        url = _scatter(record, timed, lambda variant: variant.latency_ms, "latency here, ms")
        drawn.append(Plot(url, "Accuracy against latency on this machine"))
    return drawn


def _step_rows(steps: Sequence[Step]) -> list[tuple[Step, str, str]]:
    """Pair each step with its change of size and latency against the previous one; both are empty for the first."""
    rows = [(step, "", "") for step in steps[:1]]
    for before, step in itertools.pairwise(steps):
        is_timed = before.latency_ms > 0 and step.latency_ms > 0
        change = f"{step.latency_ms - before.latency_ms:+.2f} ms" if is_timed else ""
        rows.append((step, f"{(step.bytes - before.bytes) / 1e3:+.1f} kB", change))
    return rows


def _flips(record: ConversionRecord, tiles: Sequence[tuple[Tile, ...]]) -> list[dict[str, Any]]:
    """Collect the changed answers of each variant, and the number of images that only one side has right."""
    return [
        {
            "variant": variant,
            "pairs": variant.comparison.flip_pairs[:_MAX_PAIRS],
            "more_pairs": max(0, len(variant.comparison.flip_pairs) - _MAX_PAIRS),
            "tiles": shown,
            "total": len(variant.comparison.flips),
            "worse": sum(flip.keras == flip.truth for flip in variant.comparison.flips),
            "better": sum(flip.artifact == flip.truth for flip in variant.comparison.flips),
        }
        for variant, shown in zip(record.variants, tiles, strict=True)
        if variant.comparison.flips
    ]


def _calibration(calibration: CalibrationRecord | None) -> dict[str, Any]:
    drawn = None
    if calibration and len(calibration.points) > 1:
        url = calibration_plot(calibration.points)
        drawn = Plot(url, "Accuracy and agreement of int8 against the number of calibration images")
    return {
        "calibration": calibration,
        "calibration_plot": drawn,
        "is_classes_open": calibration is not None and len(calibration.per_class) <= _MAX_OPEN_CLASSES,
    }
