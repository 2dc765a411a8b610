"""The run's ``report.html``: one file that needs no network and can be mailed."""

from __future__ import annotations

import base64
import io
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge_runtime.datasets.samples import Split
from train.callbacks import Epoch
from train.metrics import Scores
from train.recipe_files import to_toml

if TYPE_CHECKING:
    from train.finished import Run

REPORT_FILE = "report.html"
_MAX_TILES = 16
_MAX_LEFT_OUT_LINES = 50
_TILE_PX = 128
_JPEG_QUALITY = 85


@dataclass(frozen=True)
class Tile:
    """One test picture: embedded JPEG, answer, probability of the answer 0..1, and the truth."""

    jpeg_url: str
    answer: str
    score: float
    label: str


def render_report(run: Run) -> str:
    """Make the whole page.

    Labels and file names come from the user's folders, so the template escapes everything.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("train"), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    test = run.evaluation.scores[Split.TEST]
    return environment.get_template("report.html").render(
        run=run,
        recipe=run.recipe,
        splits=[(split.value, run.evaluation.scores[split]) for split in Split],
        test=test,
        heat=_heat(test),
        counts=_counts(run),
        curves_url=_png_url(run.fitted.history, run.fitted.best),
        tiles=_tiles(run),
        left_out=[(str(item.sample.path), item.reason) for item in run.pictures.left_out[:_MAX_LEFT_OUT_LINES]],
        left_out_total=len(run.pictures.left_out),
        recipe_toml=to_toml(run.recipe),
    )


def _heat(scores: Scores) -> list[tuple[str, list[tuple[int, float, bool]]]]:
    """Rows of the confusion matrix: label, then (count, share of the row 0..1, is on the diagonal)."""
    rows = []
    for i, (entry, counts) in enumerate(zip(scores.classes, scores.confusion, strict=True)):
        total = max(1, sum(counts))
        rows.append((entry.label, [(count, count / total, i == j) for j, count in enumerate(counts)]))
    return rows


def _counts(run: Run) -> list[tuple[str, list[int]]]:
    """Pictures per label, one column a part and one for all."""
    found = Counter((sample.label, sample.split) for sample in run.pictures.samples)
    rows = [(label, [found[label, split] for split in Split]) for label in run.pictures.labels]
    return [(label, [*counts, sum(counts)]) for label, counts in rows]


def _png_url(history: tuple[Epoch, ...], best: Epoch) -> str:
    """Loss and accuracy by epoch, as an embedded PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    epochs = [row.epoch for row in history]
    for axes, name, title in zip(figure.subplots(1, 2), ("loss", "accuracy"), ("loss (nats)", "accuracy"), strict=True):
        axes.plot(epochs, [getattr(row, name) for row in history], label="training", color="#8a8f98", marker=".")
        axes.plot(epochs, [getattr(row, f"val_{name}") for row in history], label="validation", color="#0b66c3")
        axes.axvline(best.epoch, color="#2a7d3f", linestyle=":", label=f"kept: epoch {best.epoch}")
        axes.set(title=title, xlabel="epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    buffer = io.BytesIO()
    # No software version in the file: the same run gives the same bytes.
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _tiles(run: Run) -> list[Tile]:
    """Up to 16 test pictures: the most certain mistakes in the first half, a seeded choice of the rest after them."""
    rows = run.pictures.rows(Split.TEST)
    probabilities = run.evaluation.probabilities[rows]
    answers, certainty = probabilities.argmax(axis=1), probabilities.max(axis=1)
    is_wrong = answers != run.pictures.targets[rows]
    wrong = np.flatnonzero(is_wrong)[np.argsort(-certainty[is_wrong], kind="stable")]
    right = np.random.default_rng(run.recipe.seed).permutation(np.flatnonzero(~is_wrong))
    mistakes = wrong[: max(_MAX_TILES // 2, _MAX_TILES - len(right))]
    labels = run.pictures.labels
    return [
        Tile(
            _jpeg_url(run.pictures.images_nhwc_rgb_u8[rows[index]]),
            labels[answers[index]],
            float(certainty[index]),
            labels[run.pictures.targets[rows[index]]],
        )
        for index in [*mistakes, *right][:_MAX_TILES]
    ]


def _jpeg_url(image_hwc_rgb_u8: NDArray[np.uint8]) -> str:
    import cv2

    small = cv2.resize(image_hwc_rgb_u8, (_TILE_PX, _TILE_PX), interpolation=cv2.INTER_AREA)
    done, data = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    if not done:
        raise ValueError("OpenCV cannot encode JPEG")
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()
