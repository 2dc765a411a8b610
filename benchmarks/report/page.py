"""``report.html``, one self-contained page, with thumbnails of images whose answer changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.records import Flip, Report
from benchmarks.report import facts, plots
from benchmarks.report.facts import caveats
from benchmarks.report.markdown import NO_CAVEATS
from benchmarks.report.plots import pareto_plot
from benchmarks.report.tables import (
    Table,
    camera_table,
    cold_start_table,
    latency_table,
    main_table,
    measured,
    moved_table,
    per_label_table,
    resources_table,
    scores_table,
    stages_table,
    threads_table,
    throughput_table,
)
from edge_runtime.contract import InputSpec
from edge_runtime.errors import EdgeKitError
from edge_runtime.image_files import BIN_SUFFIX
from edge_runtime.preprocess import load_image, load_prepared
from edge_runtime.workstation.reporting.pages import render_html, thumbnail_url
from edge_runtime.workstation.reporting.wording import one_line

MAX_TILES = 36
# All images of a page together, so that it can be mailed.
_MAX_CHARACTERS = 1_500_000


@dataclass(frozen=True)
class Changed:
    """One model's answer to a flipped image; ``score`` is 0..1."""

    subject: str
    answer: str
    score: float


@dataclass(frozen=True)
class Tile:
    """One flipped image.

    Attributes:
        jpeg_url: The image, embedded; empty where it cannot be shown.
        reason: Why it cannot be shown; empty where it can.
        name: Its folder and file name.
        flip: Its true label and what Keras says.
        changed: What the models say that do not agree with Keras, as far as the report names their flips.
    """

    jpeg_url: str
    reason: str
    name: str
    flip: Flip
    changed: tuple[Changed, ...]

    @property
    def is_wrong(self) -> bool:
        """Whether one of the changed answers is wrong."""
        return any(item.answer != self.flip.label for item in self.changed)


def read_tiles(report: Report, spec: InputSpec | None = None) -> tuple[Tile, ...]:
    """The worst flips of all models, at most `MAX_TILES`; the models take turns, so that no one fills the page alone.

    Args:
        report: Names the files, which are read again.
        spec: Geometry of the model, needed for images that are nothing but the bytes of an input.
    """
    changed: dict[str, list[Changed]] = {}
    first: dict[str, Flip] = {}
    for subject, flip in _in_turns(report):
        first.setdefault(flip.file, flip)
        changed.setdefault(flip.file, []).append(Changed(subject, flip.answer, flip.score))
    tiles, room = [], _MAX_CHARACTERS
    for file, flip in list(first.items())[:MAX_TILES]:
        url, reason = _image_url(Path(file), spec)
        room -= len(url)
        if room < 0:
            url, reason = "", "left out, because the page would become too large"
        name = one_line("/".join(Path(file).parts[-2:]))
        tiles.append(Tile(url, reason, name, flip, tuple(changed[file])))
    return tuple(tiles)


def _in_turns(report: Report) -> Iterator[tuple[str, Flip]]:
    """The worst flip of each model, then the second of each, and so on."""
    flips = [
        (subject.name, figures.against_keras.flips) for subject, figures in measured(report) if figures.against_keras
    ]
    for rank in range(max((len(own) for _, own in flips), default=0)):
        for name, own in flips:
            if rank < len(own):
                yield name, own[rank]


def _image_url(file: Path, spec: InputSpec | None) -> tuple[str, str]:
    """The small image, or why there is none."""
    try:
        if file.suffix.lower() == BIN_SUFFIX and spec is not None:
            return thumbnail_url(load_prepared(file, spec)), ""
        return thumbnail_url(load_image(file)), ""
    except EdgeKitError as error:
        # The name is beside it already.
        return "", one_line(str(error).removeprefix(f"{file}: "))


LatenciesMs = Mapping[str, Sequence[Sequence[float]]]
_FIRST_LINES = 3


@dataclass(frozen=True)
class Plot:
    """A plot as an embedded image, what it shows in words, and how to read it."""

    url: str
    text: str
    note: str


@dataclass(frozen=True)
class Section:
    """A heading with plots, a table, or both."""

    title: str
    plots: tuple[Plot, ...]
    table: Table | None


def render_page(report: Report, latencies_ms: LatenciesMs, thumbnails: Sequence[Tile]) -> str:
    """Make the whole page.

    Labels, file names and reasons come from elsewhere, so the template escapes everything.

    Args:
        report: The report, with its verdict.
        latencies_ms: Of each subject every timed single-stream call, round by round.
        thumbnails: Images of the worst flips, see `benchmarks.report.page.read_tiles`.
    """
    return render_html(
        "benchmarks.report",
        "report.html",
        {
            "report": report,
            "has_figures": bool(measured(report)),
            "main": main_table(report),
            "overview": _overview(report),
            "sections": [section for section in _sections(report, latencies_ms) if section.plots or section.table],
            "caveats": caveats(report),
            "no_caveats": NO_CAVEATS,
            "first_lines": _FIRST_LINES,
            "tiles": thumbnails,
            "facts": (
                ("How it was measured", facts.method(report)),
                ("Images", facts.images(report)),
                ("Machine", facts.machine(report)),
                ("Reproduce", facts.reproduction(report)),
            ),
        },
    )


def _overview(report: Report) -> list[Plot]:
    if not measured(report):
        return []
    text = "Accuracy against latency of one image; the larger a bubble, the larger the file"
    note = (
        "Up and left is better. The area of a bubble is the size of the file, the faint bar the 95 % interval of the "
        "accuracy. What has a green ring is beaten in both by no other model; a triangle lies below the plot."
    )
    return [Plot(pareto_plot(report), text, note)]


def _sections(report: Report, latencies_ms: LatenciesMs) -> list[Section]:
    latency = _plots(
        plots.latency_plot(report, latencies_ms),
        "How often each latency came, for each model",
        "Solid line: p50, broken: p90, dotted: p99; all as multiples of the model's own p50, which is beside its name. "
        "Slower calls than the axis has room for are in the table.",
    )
    noise = _plots(
        plots.rounds_plot(report),
        "Each round against the median, for each model",
        "How steady the machine was: in the grey band a round is within 5 % of the median. At a broken upright line "
        "all processes were made anew.",
    )
    stages = _plots(plots.stages_plot(report), "Stacked bars of the stages for each model", "A cut bar ends with ».")
    memory = _plots(
        plots.memory_plot(report), "Bars of resident memory for each model", "Pale: peak. Dark: after the timed calls."
    )
    return [
        Section("Latency and noise", latency + noise, latency_table(report)),
        Section("Stages", stages, stages_table(report)),
        Section("Cold start", (), cold_start_table(report)),
        Section("Memory, processor time and size", memory, resources_table(report)),
        Section("Threads", (), threads_table(report)),
        Section("Throughput", (), throughput_table(report)),
        Section("Camera", (), camera_table(report)),
        Section("Scores", (), scores_table(report)),
        Section("By label", (), per_label_table(report)),
        Section("Where errors moved", (), moved_table(report)),
    ]


def _plots(url: str | None, text: str, note: str) -> tuple[Plot, ...]:
    return () if url is None else (Plot(url, text, note),)
