"""Shared plot style, and plots as data URLs. Plots hold no text from the user."""

from __future__ import annotations

import base64
import contextlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

ARTIFACT, KERAS, SECOND, THIRD, FOURTH = "#0b66c3", "#8a8f98", "#2a7d3f", "#e08e0b", "#7b4fb5"
"""Artifacts are blue and Keras grey, in every report."""

COLORS = (
    "#0b66c3", "#d1495b", "#2a7d3f", "#e08e0b", "#7b4fb5", "#00868f", "#8c5a2b", "#c2439a", "#5c6670", "#7a9a01",
)  # fmt: skip
PLOT_INCHES = (4.2, 3.5)
"""Size of a plot whose text stays readable on a phone, 390 px wide."""

WIDE = 8
"""Ratio of the largest to the smallest value above which an axis is logarithmic, or long bars are cut."""

_ROW_INCHES = 0.3
_LABEL_OFFSETS_PT = tuple(
    (x, y)
    for distance in (0, 12, 24, 36, 48, 60, 72)
    for aside in (4, 24, 48)
    for x, y in (
        (aside, distance),
        (aside, -distance),
        (0, 6 + distance),
        (0, -6 - distance),
        (-aside, distance),
        (-aside, -distance),
    )
)


@dataclass(frozen=True)
class PointLabel:
    """Label of a point in a scatter plot.

    Attributes:
        text: Text of the label.
        x: Position of the point, in data units.
        y: Position of the point, in data units.
        color: Colour of the text and of the line to the point.
        radius_pt: Radius of the point's marker, in 1/72 inch.
    """

    text: str
    x: float
    y: float
    color: str
    radius_pt: float


@contextlib.contextmanager
def house_style() -> Iterator[None]:
    """Apply the plot style in a block: reproducible bytes, and no formulas from a ``$`` in a name."""
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": "edgekit", "text.parse_math": False, "font.size": 10}):
        yield


def new_figure(size_inches: tuple[float, float], xlabel: str, ylabel: str = "", *, title: str = "") -> tuple[Any, Any]:
    """Create a figure with one pair of axes."""
    # No pyplot: it keeps a list of figures and needs a display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size_inches, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    style(axes)
    axes.set(title=title, xlabel=xlabel, ylabel=ylabel)
    return figure, axes


def style(axes: Any) -> None:
    """Draw a faint grid in the background, and no box."""
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def new_rows(names: Sequence[str], xlabel: str, row_inches: float = _ROW_INCHES) -> tuple[Any, Any]:
    """Create a figure with a row for each name, the first on top."""
    figure, axes = new_figure((PLOT_INCHES[0], 1.0 + row_inches * len(names)), xlabel)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    return figure, axes


def set_axis_from_zero(axes: Any, values: Sequence[float]) -> None:
    """Start the x axis at zero; make it logarithmic if the values differ by more than `WIDE`."""
    if max(values) < WIDE * min(values):
        axes.set_xlim(0, 1.2 * max(values))
        return
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axes.set_xscale("log")
    axes.set_xlim(0.6 * min(values), 2.2 * max(values))
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def place_labels(figure: Any, axes: Any, labels: Sequence[PointLabel]) -> None:
    """Write each label beside its point, where it covers neither a label nor a point if there is such a place."""
    from matplotlib.patheffects import withStroke

    figure.canvas.draw()
    taken = [_marker_box(axes, label, figure.dpi / 72) for label in labels]
    for label in sorted(labels, key=lambda label: (label.x, label.y)):
        drawn = axes.annotate(
            label.text, (label.x, label.y), (0, 0), textcoords="offset points",
            fontsize=8.5, color=label.color, zorder=5,
            arrowprops={"arrowstyle": "-", "color": label.color, "alpha": 0.5, "linewidth": 0.7, "shrinkB": 2},
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
        )  # fmt: skip
        _move_to_free_place(drawn, axes.get_window_extent(), taken, label.radius_pt)
        taken.append(_text_box(drawn))


def _move_to_free_place(drawn: Any, frame: Any, taken: Sequence[Any], radius_pt: float) -> None:
    """Take the first offset without overlap, else the one with the fewest overlaps inside the frame."""
    rated = []
    for x_pt, y_pt in _LABEL_OFFSETS_PT:
        _set_offset(drawn, x_pt, y_pt, radius_pt)
        box = _text_box(drawn)
        hits = sum(box.overlaps(other) for other in taken)
        is_inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
        rated.append((hits + 100 * (not is_inside), x_pt, y_pt))
        if rated[-1][0] == 0:
            return
    _, x_pt, y_pt = min(rated, key=lambda entry: entry[0])
    _set_offset(drawn, x_pt, y_pt, radius_pt)


def _set_offset(drawn: Any, x_pt: float, y_pt: float, radius_pt: float) -> None:
    sign_x, sign_y = (x_pt > 0) - (x_pt < 0), (y_pt > 0) - (y_pt < 0)
    drawn.set_position((x_pt + sign_x * radius_pt, y_pt + (sign_y * radius_pt if not sign_x else 0)))
    drawn.set_horizontalalignment("left" if sign_x > 0 else "right" if sign_x < 0 else "center")
    drawn.set_verticalalignment("center")


def _marker_box(axes: Any, label: PointLabel, pixels_per_pt: float) -> Any:
    from matplotlib.transforms import Bbox

    x, y = axes.transData.transform((label.x, label.y))
    radius = pixels_per_pt * label.radius_pt
    return Bbox.from_extents(x - radius, y - radius, x + radius, y + radius)


def _text_box(drawn: Any) -> Any:
    """Return the extent of the text without the line to the point."""
    from matplotlib.text import Text

    drawn.update_positions(drawn.figure.canvas.get_renderer())
    return Text.get_window_extent(drawn)


def svg(figure: Any, *, background: str | None = None) -> bytes:
    """Render a figure as SVG; transparent unless a background is given."""
    buffer = io.BytesIO()
    face: dict[str, Any] = {"transparent": True} if background is None else {"facecolor": background}
    with house_style():
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, **face)
    return buffer.getvalue()


def svg_url(figure: Any) -> str:
    """Render a figure as an SVG data URL."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg(figure)).decode()


def png_url(figure: Any, dpi: int) -> str:
    """Render a figure as a PNG data URL, for plots with many points."""
    buffer = io.BytesIO()
    # No software version in the file, so that the bytes are reproducible.
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
