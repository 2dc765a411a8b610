"""Plots of the run report, as embedded PNGs.

Plots contain no text from the user, because the fonts of Matplotlib do not cover all scripts; legends are in HTML.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from edge_runtime.workstation.reporting.plots import COLORS, new_figure, png_url, style
from train.evaluation.calibration import BINS, Reliability
from train.evaluation.metrics import Ranking, Scores
from train.fitting.training_state import Epoch

_TRAIN, _VALIDATION, _KEPT, _FAINT = "#8a8f98", COLORS[0], COLORS[2], "#b4bac2"
_SIZE_INCHES = (4.2, 3.1)
_SQUARE_INCHES = (3.9, 3.6)
_DPI = 150
_FAR_OFF = 4.0


def loss_curve(history: Sequence[Epoch], best: Epoch, before: float) -> str:
    """Plot loss by epoch; ``before`` is the validation loss of the untrained network, possibly NaN."""
    return _epoch_curve(history, best, before, "loss", "loss (nats)")


def accuracy_curve(history: Sequence[Epoch], best: Epoch, before: float) -> str:
    """Plot accuracy by epoch; ``before`` is the validation accuracy of the untrained network, possibly NaN."""
    return _epoch_curve(history, best, before, "accuracy", "accuracy")


def learning_rate_curve(history: Sequence[Epoch]) -> str:
    """Plot the learning rate at the end of each epoch."""
    figure, axes = new_figure(_SIZE_INCHES, "epoch", title="learning rate")
    axes.plot([row.epoch for row in history], [row.learning_rate for row in history], color=COLORS[3], marker=".")
    axes.set_ylim(bottom=0)
    axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
    _mark_epochs(axes, history)
    return png_url(figure, _DPI)


def confusion_image(scores: Scores) -> str:
    """Draw the confusion matrix of many classes as shares of the rows, by class number."""
    figure, axes = new_figure((6.4, 5.6), "answer (class number)", "true class (number)")
    confusion = np.asarray(scores.confusion, np.float64)
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    # Numbers count from 1, as in the table of classes.
    ends = (0.5, len(shares) + 0.5)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, extent=(*ends, *ends[::-1]), interpolation="nearest")
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)
    axes.grid(visible=False)
    return png_url(figure, _DPI)


def roc_plot(rankings: Sequence[Ranking], highlighted: Sequence[int]) -> str:
    """Plot ROC curves, one class against all others."""
    figure, axes = new_figure(_SQUARE_INCHES, "false alarms", "recall", title="ROC")
    axes.plot([0, 1], [0, 1], color=_FAINT, linestyle=":")
    _ranking_lines(axes, [entry.roc_xy for entry in rankings], highlighted)
    return png_url(figure, _DPI)


def precision_recall_plot(rankings: Sequence[Ranking], highlighted: Sequence[int]) -> str:
    """Plot precision-recall curves, one class against all others."""
    figure, axes = new_figure(_SQUARE_INCHES, "recall", "precision", title="precision and recall")
    # Steps, since no threshold reaches the points between two thresholds.
    _ranking_lines(axes, [entry.precision_recall_xy for entry in rankings], highlighted, drawstyle="steps-pre")
    return png_url(figure, _DPI)


def reliability_plot(reliability: Reliability, title: str) -> str:
    """Plot accuracy by score, above the number of answers by score."""
    figure, axes = new_figure(_SQUARE_INCHES, "", "share right", title=title)
    axes.remove()
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    style(upper)
    style(lower)
    centers = (np.arange(BINS) + 0.5) / BINS
    filled = [entry for entry in reliability.bins if entry.images]
    upper.plot([0, 1], [0, 1], color=_FAINT, linestyle=":")
    upper.bar(centers, [entry.accuracy for entry in reliability.bins], 0.9 / BINS, color=COLORS[0], alpha=0.35)
    upper.plot([e.mean_score for e in filled], [e.accuracy for e in filled], color=COLORS[0], marker="o", markersize=4)
    upper.set(title=title, ylabel="share right", ylim=(0, 1.04), xlim=(0, 1))
    lower.bar(centers, [entry.images for entry in reliability.bins], 0.9 / BINS, color=_TRAIN)
    lower.set(xlabel="score of the answer", ylabel="answers")
    return png_url(figure, _DPI)


def _epoch_curve(history: Sequence[Epoch], best: Epoch, before: float, name: str, title: str) -> str:
    figure, axes = new_figure(_SIZE_INCHES, "epoch", title=title)
    epochs = [row.epoch for row in history]
    axes.plot(epochs, [getattr(row, name) for row in history], label="training", color=_TRAIN, marker=".")
    validation = [getattr(row, f"val_{name}") for row in history]
    axes.plot(epochs, validation, label="validation", color=_VALIDATION, marker=".")
    # A much larger initial value would flatten the curves; the report also states it in words.
    if before < _FAR_OFF * max([value for value in validation if math.isfinite(value)]):
        axes.plot([0], [before], color=_VALIDATION, marker="o", fillstyle="none", linestyle="", label="untrained")
    kept = getattr(best, f"val_{name}")
    axes.plot([best.epoch], [kept], color=_KEPT, marker="D", linestyle="", label="kept", zorder=5)
    _mark_epochs(axes, history)
    axes.legend(frameon=False, fontsize=9)
    return png_url(figure, _DPI)


def _mark_epochs(axes: Any, history: Sequence[Epoch]) -> None:
    """Set integer ticks, and mark the border between two phases by a line."""
    axes.xaxis.get_major_locator().set_params(integer=True)
    for before, after in itertools.pairwise(history):
        if before.phase != after.phase:
            axes.axvline(before.epoch + 0.5, color=COLORS[3], linestyle="--", linewidth=1)
            axes.annotate(
                f" {after.phase}", (before.epoch + 0.5, 0.95), xycoords=("data", "axes fraction"), fontsize=9,
                color=COLORS[3],
            )  # fmt: skip


def _ranking_lines(axes: Any, curves: Sequence[Any], highlighted: Sequence[int], **style: str) -> None:
    for index, points_xy in enumerate(curves):
        if len(points_xy) and index not in highlighted:
            axes.plot(points_xy[:, 0], points_xy[:, 1], color=_FAINT, linewidth=0.6, alpha=0.6, **style)
    for color, index in zip(COLORS, highlighted):  # noqa: B905 - at most as many as colours
        axes.plot(curves[index][:, 0], curves[index][:, 1], color=color, linewidth=1.6, **style)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.03))
