"""``conversion.html``: one file that needs no network and no script, and can be mailed."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convert.check.compare import FlipPair
from convert.check.record import CalibrationRecord, ConversionRecord, Step, VariantRecord
from convert.report import plots, wording
from convert.report.gallery import Tile, flip_tiles
from convert.report.recommend import recommendation
from edge_runtime.reporting.pages import render_html

PAGE_FILE = "conversion.html"
_MAX_PAIRS = 12
_MAX_OPEN_CLASSES = 12


@dataclass(frozen=True)
class Plot:
    """A plot as an embedded image, and what it shows in words."""

    url: str
    text: str


@dataclass(frozen=True)
class StepRow:
    """A step, and what it cost against the one before it; both are empty for the first."""

    step: Step
    size_change: str
    latency_change: str


@dataclass(frozen=True)
class FlipSection:
    """The flips of one variant.

    Attributes:
        variant: The variant.
        pairs: The most frequent pairs of labels.
        more_pairs: How many others there are.
        tiles: Pictures.
        total: How many pictures flipped.
        worse: How many of them Keras alone has right.
        better: How many of them the artefact alone has right.
    """

    variant: VariantRecord
    pairs: tuple[FlipPair, ...]
    more_pairs: int
    tiles: tuple[Tile, ...]
    total: int
    worse: int
    better: int


def render_page(
    record: ConversionRecord, check_images_nhwc_rgb_u8: NDArray[np.uint8], check_names: Sequence[str]
) -> str:
    """Make the whole page.

    Labels and file names come from the user's folders, so the template escapes everything.

    Args:
        record: The conversion.
        check_images_nhwc_rgb_u8: uint8 [images, H, W, 3], the pictures of the check in its order; may be a memmap.
        check_names: A name for each, such as ``cat/1.jpg``.
    """
    return render_html(
        "convert.report",
        "conversion.html",
        {
            "record": record,
            "wording": wording,
            "recommendation": recommendation(record),
            "keras": record.variants[0].comparison if record.variants else None,
            "unsure": _unsure(record),
            "plots": _plots(record),
            "steps": [(variant, _step_rows(variant.steps)) for variant in record.variants if variant.steps],
            "flips": _flips(record, flip_tiles(record, check_images_nhwc_rgb_u8, check_names)),
            **_calibration(record.calibration),
        },
        {"signed": wording.signed},
    )


def _unsure(record: ConversionRecord) -> list[str]:
    """Variants that passed though a loss above the gate lies within their interval."""
    return [
        variant.artifact.variant.value
        for variant in record.passed
        if variant.comparison.drop_interval_points[1] > record.max_drop_points
    ]


def _plots(record: ConversionRecord) -> list[Plot]:
    drawn = []
    if record.variants:
        drawn.append(Plot(plots.size_plot(record), "Accuracy against size of the file"))
    if any(variant.latency_ms > 0 for variant in record.variants):
        drawn.append(Plot(plots.latency_plot(record), "Accuracy against latency on this machine"))
    return drawn


def _step_rows(steps: Sequence[Step]) -> list[StepRow]:
    rows = [StepRow(step, "", "") for step in steps[:1]]
    for before, step in itertools.pairwise(steps):
        is_timed = before.latency_ms > 0 and step.latency_ms > 0
        rows.append(
            StepRow(
                step,
                f"{(step.bytes - before.bytes) / 1e3:+.1f} kB",
                f"{step.latency_ms - before.latency_ms:+.2f} ms" if is_timed else "",
            )
        )
    return rows


def _flips(record: ConversionRecord, tiles: Sequence[tuple[Tile, ...]]) -> list[FlipSection]:
    return [
        FlipSection(
            variant=variant,
            pairs=variant.comparison.flip_pairs[:_MAX_PAIRS],
            more_pairs=max(0, len(variant.comparison.flip_pairs) - _MAX_PAIRS),
            tiles=shown,
            total=len(variant.comparison.flips),
            worse=sum(flip.keras == flip.truth for flip in variant.comparison.flips),
            better=sum(flip.artifact == flip.truth for flip in variant.comparison.flips),
        )
        for variant, shown in zip(record.variants, tiles, strict=True)
        if variant.comparison.flips
    ]


def _calibration(calibration: CalibrationRecord | None) -> dict[str, Any]:
    drawn = None
    if calibration and len(calibration.points) > 1:
        url = plots.calibration_plot(calibration.points)
        drawn = Plot(url, "Accuracy and agreement of int8 against the number of calibration pictures")
    return {
        "calibration": calibration,
        "calibration_plot": drawn,
        "is_classes_open": calibration is not None and len(calibration.per_class) <= _MAX_OPEN_CLASSES,
    }
