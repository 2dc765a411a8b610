"""Shared plot style, and plots as data URLs. Plots hold no text from the user."""

from __future__ import annotations

import base64
import contextlib
import io
from collections.abc import Iterator, Sequence
from typing import Any

ARTIFACT, KERAS, SECOND, THIRD, FOURTH = "#0b66c3", "#8a8f98", "#2a7d3f", "#e08e0b", "#7b4fb5"
"""Artifacts are blue and Keras grey, in every report."""

COLORS = (
    "#0b66c3", "#d1495b", "#2a7d3f", "#e08e0b", "#7b4fb5", "#00868f", "#8c5a2b", "#c2439a", "#5c6670", "#7a9a01",
)  # fmt: skip
WIDE = 8
"""Ratio of the largest to the smallest value above which an axis is logarithmic, or long bars are cut."""

_ROW_INCHES = 0.3


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
    figure, axes = new_figure((5.2, 1.0 + row_inches * len(names)), xlabel)
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
