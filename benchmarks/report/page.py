"""``report.html``, one self-contained page, with thumbnails of images whose answer changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice, zip_longest
from pathlib import Path

from benchmarks.records import Flip, Report
from benchmarks.report import plots
from benchmarks.report.facts import NO_CAVEATS, caveats, facts_of
from benchmarks.report.tables import SECTIONS, TOO_FEW, is_undecided, main_table
from benchmarks.report.verdict import verdict_lines
from benchmarks.statistics import is_noisy
from edge_runtime.contract import InputSpec
from edge_runtime.errors import EdgeKitError
from edge_runtime.image_files import BIN_SUFFIX
from edge_runtime.preprocess import load_image, load_prepared
from edge_runtime.workstation.reporting.pages import render_html, thumbnail_url
from edge_runtime.workstation.reporting.wording import counted, megabytes, one_line, percent, significant

MAX_TILES = 36
# All images of a page together, so that it can be mailed.
_MAX_CHARACTERS = 1_500_000
_FIRST_LINES = 3
# Shown at 160 px, and larger on a click.
_TILE_PX = 320
LatenciesMs = Mapping[str, Sequence[Sequence[float]]]


@dataclass(frozen=True)
class Tile:
    """One flipped image.

    Attributes:
        jpeg_url: Embedded image; empty if it cannot be shown.
        reason: Reason why it cannot be shown; empty if it can.
        name: Folder and file name.
        changed: Models that disagree with Keras, with their flips, as far as the report lists these; at least one.
    """

    jpeg_url: str
    reason: str
    name: str
    changed: tuple[tuple[str, Flip], ...]

    @property
    def is_wrong(self) -> bool:
        """True if one of the changed answers is wrong."""
        return any(flip.answer != flip.label for _, flip in self.changed)


def read_tiles(report: Report, spec: InputSpec | None = None) -> tuple[Tile, ...]:
    """Read the images of the worst flips again: the worst of each model, then the second of each, up to `MAX_TILES`.

    Images that are the bare bytes of a model's input need its geometry, ``spec``.
    """
    flips = [
        [(subject.name, flip) for flip in figures.against_keras.flips]
        for subject, figures in report.measured()
        if figures.against_keras
    ]
    changed: dict[str, list[tuple[str, Flip]]] = {}
    for pair in filter(None, chain.from_iterable(zip_longest(*flips))):
        changed.setdefault(pair[1].file, []).append(pair)
    tiles, room = [], _MAX_CHARACTERS
    for file, pairs in islice(changed.items(), MAX_TILES):
        url, reason = _image_url(Path(file), spec)
        room -= len(url)
        if room < 0:
            url, reason = "", "left out, because the page would become too large"
        tiles.append(Tile(url, reason, one_line("/".join(Path(file).parts[-2:])), tuple(pairs)))
    return tuple(tiles)


def _image_url(file: Path, spec: InputSpec | None) -> tuple[str, str]:
    """Make the thumbnail, or give the reason why there is none."""
    try:
        if file.suffix.lower() == BIN_SUFFIX and spec is not None:
            return thumbnail_url(load_prepared(file, spec), side_px=_TILE_PX), ""
        return thumbnail_url(load_image(file), side_px=_TILE_PX), ""
    except EdgeKitError as error:
        # The file name is shown beside it.
        return "", one_line(str(error).removeprefix(f"{file}: "))


@dataclass(frozen=True)
class Plot:
    """A plot as an embedded image, its description, a note on how to read it, and the same plot for a phone."""

    url: str
    text: str
    note: str
    narrow_url: str = ""


def render_page(report: Report, latencies_ms: LatenciesMs, thumbnails: Sequence[Tile]) -> str:
    """Render the page; labels, file names and messages come from users, so the template escapes everything.

    Args:
        report: Report with its verdict.
        latencies_ms: Every timed single-stream call by subject, round by round.
        thumbnails: Images of the worst flips; see `read_tiles`.
    """
    drawn = _plots(report, latencies_ms) if report.measured() else {}
    sections = [(title, drawn.get(title, ()), build(report)) for title, build in SECTIONS]
    return render_html(
        "benchmarks.report",
        "report.html",
        {
            "report": report,
            "pick": _pick(report),
            "reasons": verdict_lines(report),
            "main": main_table(report),
            "overview": drawn.get("", ()),
            "sections": sections,
            "caveats": caveats(report),
            "no_caveats": NO_CAVEATS,
            "first_lines": _FIRST_LINES,
            "tiles": thumbnails,
            "facts": facts_of(report),
        },
    )


def _pick(report: Report) -> dict[str, object] | None:
    """Collect what stands in large type: the recommended variant, its main figures, and doubts about it."""
    chosen = next((pair for pair in report.measured() if pair[0].name == report.verdict.variant), None)
    if chosen is None:
        return None
    subject, figures = chosen
    speedup = figures.single_stream.speedup
    return {
        "name": subject.name,
        "figures": [
            (f"{significant(figures.single_stream.latency.p50_ms)} ms", "per image (p50)"),
            (megabytes(subject.bytes), "file"),
            (percent(figures.accuracy.top1.fraction), f"right on {counted(figures.accuracy.top1.total, 'image')}"),
        ],
        "too_few": TOO_FEW if is_undecided(figures) else "",
        "is_provisional": bool(report.invalid) or (speedup is not None and is_noisy(speedup)),
    }


def _plots(report: Report, latencies_ms: LatenciesMs) -> dict[str, tuple[Plot, ...]]:
    """Draw the plots by section title; the empty title is the overview."""
    drawn = (
        (
            "",
            plots.pareto_plot(report),
            "Accuracy against latency of one image; the larger a bubble, the larger the file",
            "Up and left is better. The area of a bubble is the size of the file, the faint bar the 95 % interval of "
            "the accuracy. Green ring: no other model is both faster and more accurate. Triangle: below the plot.",
        ),
        (
            "Latency",
            plots.latency_plot(report, latencies_ms),
            "Distribution of the latencies of each model",
            "Solid line: p50, dashed: p90, dotted: p99; as multiples of the model's own p50, which is beside its name. "
            "Calls slower than the axis are in the table.",
        ),
        (
            "Latency",
            plots.rounds_plot(report),
            "Each round against the median, for each model",
            "Noise of the machine: in the grey band a round is within 5 % of the median. At a dashed vertical line "
            "all processes were restarted.",
        ),
        ("Stages", plots.stages_plot(report), "Stacked bars of the stages for each model", "A cut bar ends with »."),
        (
            "Memory, CPU time and size",
            plots.memory_plot(report),
            "Bars of resident memory for each model",
            "Pale: peak. Dark: after the timed calls.",
        ),
    )
    found: dict[str, tuple[Plot, ...]] = {}
    for title, url, text, note in drawn:
        if url is not None:
            narrow_url = "" if title else plots.pareto_plot(report, narrow=True)
            found[title] = (*found.get(title, ()), Plot(url, text, note, narrow_url))
    return found
