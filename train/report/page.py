"""Render the run's ``report.html``: one self-contained file."""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.workstation.datasets.samples import Split
from edge_runtime.workstation.reporting.pages import jpeg_url, render_html
from edge_runtime.workstation.reporting.plots import COLORS
from edge_runtime.workstation.reporting.wording import NO_BREAK_SPACE, percent
from train.evaluation.metrics import Ranking, Scores, mean_ranking
from train.fitting.phases import FINETUNE, HEAD, WHOLE, phases_of
from train.fitting.training_state import best_epoch
from train.intake.findings import Finding, Kind
from train.recipe import to_toml
from train.report import plots

if TYPE_CHECKING:
    from train.evaluation.evaluate import TrainingResult

REPORT_FILE = "report.html"
_MAX_TILES = 24
_TILE_PX = 128
# Images are shown at 128 px, and up to this size on a click.
_GROWN_PX = 256
_MAX_SAMPLES = 8
_MAX_SAMPLES_OF_PAGE = 96
_MAX_SAMPLED_CLASSES = 40
_MAX_OPEN_SAMPLES = 4
_JPEG_QUALITY = 85
_AUGMENTED_IMAGES = 4
_AUGMENTED_VERSIONS = 5
_MAX_LEFT_OUT_LINES = 50
_MAX_MESSAGES_PER_KIND = 5
_MAX_HEAT_CLASSES = 12
_MAX_OPEN_CLASSES = 20
_MAX_LOWEST = 10
_MAX_CONFUSIONS = 12
_HIGHLIGHTED_OF_MANY = 5
_percent = functools.partial(percent, space=NO_BREAK_SPACE)


def render_report(run: TrainingResult, model: Any = None) -> str:
    """Render the page; the template escapes all text, since labels and file names come from the user's folders.

    Args:
        run: Result of the training.
        model: Trained Keras model, for the occlusion maps; None leaves them out.
    """
    return render_html(
        "train",
        "report.html",
        {
            "run": run,
            "recipe": run.recipe,
            "evaluation": run.evaluation,
            "recipe_toml": to_toml(run.recipe),
            "kept": kept_epoch(run),
            "sentences": sentences(run),
            "curves": _curves(run),
            "predictions": predictions(run),
            "mistakes": worst_mistakes(run),
            "maps": occlusions(run, model) if model is not None and run.hardware.process_count == 1 else [],
            "samples": samples_by_class(run),
            "open_samples": len(run.data.labels) <= _MAX_OPEN_SAMPLES,
            "augmented_url": augmented_url(run),
            **_test_tables(run.evaluation.scores[Split.TEST]),
            **_ranking(run.evaluation.ranking),
            **_reliability(run),
            **_data(run),
        },
    )


def kept_epoch(run: TrainingResult) -> str:
    """Name the kept epoch, such as ``head, epoch 7``."""
    best = run.fitted.best
    return f"epoch {best.epoch}" if best.phase == WHOLE else f"{best.phase}, epoch {best.epoch}"


def sentences(run: TrainingResult) -> list[str]:
    """Summarise the training in sentences: kept epoch, phases, early stopping, chance level."""
    best, (loss, accuracy) = run.fitted.best, run.fitted.before_training
    found = [
        f"Kept: {kept_epoch(run)} of {len(run.fitted.history)}, the best on validation "
        f"({_percent(best.val_accuracy)} right).",
        *_finetuning(run),
    ]
    if math.isfinite(accuracy):
        found.append(f"Before training, {_percent(accuracy)} of the validation images were right (loss {loss:.3f}).")
    for phase in phases_of(run.recipe):
        done = sum(row.phase == phase.name for row in run.fitted.history)
        if 0 < done < phase.epochs:
            name = "Training" if phase.name == WHOLE else f"Phase {phase.name}"
            patience = f"{run.recipe.fit.patience} of them without improvement"
            found.append(f"{name} stopped after {done} of {phase.epochs} epochs, {patience}.")
    test = run.evaluation.scores[Split.TEST]
    largest = max(test.classes, key=lambda entry: entry.images)
    if largest.images:
        chance = f"would be right on {_percent(largest.images / test.images)} of the test images"
        found.append(f"Always answering “{largest.label}”, the largest class, {chance}.")
    return found


def _finetuning(run: TrainingResult) -> list[str]:
    """Compare the best epochs of both phases, if there are two."""
    head, finetuned = (best_epoch([r for r in run.fitted.history if r.phase == name]) for name in (HEAD, FINETUNE))
    if head is None or finetuned is None:
        return []
    pair = f"{_percent(finetuned.val_accuracy)} against {_percent(head.val_accuracy)}"
    if head.val_accuracy == finetuned.val_accuracy:
        pair += f", loss {finetuned.val_loss:.3f} against {head.val_loss:.3f}"
    if run.fitted.best.phase == FINETUNE:
        return [f"Fine-tuning was better than the head alone on validation: {pair}."]
    return [f"Fine-tuning was not better than the head alone on validation ({pair}), so the head's weights were kept."]


def _plot(url: str, text: str) -> dict[str, str]:
    """Pair a plot, an embedded PNG, with its text alternative."""
    return {"url": url, "text": text}


def _curves(run: TrainingResult) -> list[dict[str, str]]:
    history, best = run.fitted.history, run.fitted.best
    loss, accuracy = run.fitted.before_training
    return [
        _plot(plots.loss_curve(history, best, loss), "Loss by epoch, training and validation"),
        _plot(plots.accuracy_curve(history, best, accuracy), "Accuracy by epoch, training and validation"),
        _plot(plots.learning_rate_curve(history), "Learning rate by epoch"),
    ]


def _test_tables(test: Scores) -> dict[str, Any]:
    """Tabulate the test images by class and by pair of classes."""
    is_small = len(test.classes) <= _MAX_HEAT_CLASSES
    pairs = [
        (count, entry.label, test.classes[j].label, count / entry.images)
        for entry, row in zip(test.classes, test.confusion, strict=True)
        for j, count in enumerate(row)
        if count and test.classes[j] is not entry
    ]
    by_f1 = sorted((i for i, e in enumerate(test.classes) if e.images), key=lambda i: test.classes[i].f1)
    return {
        "test": test,
        "is_small": is_small,
        "lowest_f1": [] if len(test.classes) <= _MAX_OPEN_CLASSES else by_f1[:_MAX_LOWEST],
        "heat": _heat(test) if is_small else [],
        "heat_plot": None if is_small else _plot(plots.confusion_image(test), "Confusion matrix"),
        "confusions": sorted(pairs, key=lambda pair: -pair[0])[:_MAX_CONFUSIONS],
        "confusions_total": len(pairs),
    }


def _heat(scores: Scores) -> list[tuple[str, list[tuple[int, float, bool]]]]:
    """Rows of the confusion matrix: label, then (count, share of the row 0..1, is on the diagonal)."""
    rows = []
    for i, (entry, counts) in enumerate(zip(scores.classes, scores.confusion, strict=True)):
        total = max(1, sum(counts))
        rows.append((entry.label, [(count, count / total, i == j) for j, count in enumerate(counts)]))
    return rows


def _ranking(rankings: Sequence[Ranking]) -> dict[str, Any]:
    """Plot ROC and precision-recall curves; of many classes only the lowest-ranked are coloured."""
    known = [i for i, entry in enumerate(rankings) if entry.average_precision is not None]
    if len(known) > len(COLORS):
        known = sorted(known, key=lambda i: rankings[i].average_precision or 0.0)[:_HIGHLIGHTED_OF_MANY]
    drawn = [
        _plot(plots.roc_plot(rankings, known), "ROC curves by class"),
        _plot(plots.precision_recall_plot(rankings, known), "Precision-recall curves by class"),
    ]
    return {
        "ranking_plots": drawn if known else [],
        "ranking_legend": [(color, rankings[i]) for color, i in zip(COLORS, known)],  # noqa: B905
        "ranking_has_more": len(known) < sum(entry.roc_auc is not None for entry in rankings),
        "mean_roc_auc": mean_ranking([entry.roc_auc for entry in rankings]),
        "mean_average_precision": mean_ranking([entry.average_precision for entry in rankings]),
    }


def _reliability(run: TrainingResult) -> dict[str, Any]:
    calibration = run.evaluation.calibration
    if calibration.temperature == 1.0:
        shown = [(calibration.test_after, "score and accuracy")]
    else:
        shown = [(calibration.test_before, "before calibration"), (calibration.test_after, "after calibration")]
    return {
        "calibration": calibration,
        "reliability_plots": [_plot(plots.reliability_plot(entry, title), title) for entry, title in shown],
    }


def _data(run: TrainingResult) -> dict[str, Any]:
    """Count images by label and split, findings of the audit, and files left out."""
    found = Counter((sample.label, sample.split) for sample in run.data.samples)
    left_out = run.data.left_out
    return {
        "splits": [(split.value, run.evaluation.scores[split]) for split in Split],
        "counts": [(label, [found[label, split] for split in Split]) for label in run.data.labels],
        "findings": _findings(run.data.findings),
        "left_out": [(str(item.sample.path), item.reason) for item in left_out[:_MAX_LEFT_OUT_LINES]],
        "left_out_total": len(left_out),
    }


def _findings(findings: Sequence[Finding]) -> list[tuple[str, int, list[tuple[str, int]], int]]:
    """Per kind: heading, number of files, the most frequent messages with their counts, and the number of others."""
    messages: dict[Kind, Counter[str]] = {}
    files: Counter[Kind] = Counter()
    for finding in findings:
        messages.setdefault(finding.kind, Counter())[finding.message] += 1
        files[finding.kind] += len(finding.samples)
    return [
        (kind.heading, files[kind], shown, len(found) - len(shown))
        for kind, found in messages.items()
        for shown in [found.most_common(_MAX_MESSAGES_PER_KIND)]
    ]


def predictions(run: TrainingResult) -> list[dict[str, Any]]:
    """Draw test images at random, so that right and wrong answers keep their true shares."""
    rows = run.data.rows(Split.TEST)
    chosen = np.random.default_rng(run.recipe.seed).permutation(rows)[:_MAX_TILES]
    return [_tile(run, int(row)) for row in chosen]


def worst_mistakes(run: TrainingResult) -> list[dict[str, Any]]:
    """Select wrong answers on test images, highest score first."""
    return [_tile(run, int(row)) for row in _wrong_rows(run)[:_MAX_TILES]]


def _wrong_rows(run: TrainingResult) -> NDArray[np.intp]:
    rows = run.data.rows(Split.TEST)
    wrong = rows[run.evaluation.answers[rows] != run.data.targets[rows]]
    return wrong[np.argsort(-run.evaluation.answer_scores(wrong), kind="stable")]


def occlusions(run: TrainingResult, model: Any) -> list[dict[str, Any]]:
    """Draw the occlusion maps of the worst mistakes, each beside its image; ``strongest`` is the largest fall 0..1."""
    from train.report.occlusion import MAX_MAPS, occlusion_maps

    rows = _wrong_rows(run)[:MAX_MAPS]
    maps = occlusion_maps(model, run.data.images(rows), run.evaluation.answers[rows], run.evaluation.output)
    tiles = []
    for row, found in zip(rows, maps, strict=False):
        pair = np.concatenate([_tile_image(found.image_hwc_rgb_u8), _tile_image(found.drawn())], axis=1)
        tiles.append({**_tile(run, int(row), pair), "strongest": found.strongest})
    return tiles


def samples_by_class(run: TrainingResult) -> list[dict[str, Any]]:
    """Draw test images of each class at random; of many classes, those with the lowest recall."""
    rows, data, answers = run.data.rows(Split.TEST), run.data, run.evaluation.answers
    shuffled = np.random.default_rng(run.recipe.seed).permutation(rows)
    found = []
    for index, label in enumerate(data.labels):
        own = shuffled[data.targets[shuffled] == index]
        if len(own):
            found.append((label, own, int((answers[own] == index).sum())))
    if len(found) > _MAX_SAMPLED_CLASSES:
        found = sorted(found, key=lambda entry: entry[2] / len(entry[1]))[:_MAX_SAMPLED_CLASSES]
    count = max(2, min(_MAX_SAMPLES, _MAX_SAMPLES_OF_PAGE // max(1, len(found))))
    return [
        {"label": label, "images": len(own), "right": right, "tiles": [_tile(run, int(row)) for row in own[:count]]}
        for label, own, right in found
    ]


def augmented_url(run: TrainingResult) -> str | None:
    """Draw training images in the first column and augmented versions beside them; None without augmentation."""
    from train.network.augmentation import augmentation, augmented_samples

    settings, seed = run.recipe.augment, run.recipe.seed
    if not augmentation(settings, seed):
        return None
    rows = np.random.default_rng(seed).permutation(run.data.rows(Split.TRAIN))[:_AUGMENTED_IMAGES]
    originals = run.data.images(rows)
    versions = [augmented_samples(originals, settings, seed + 10 * index) for index in range(_AUGMENTED_VERSIONS)]
    columns = [np.concatenate([_tile_image(image) for image in images]) for images in (originals, *versions)]
    gap = np.full((len(columns[0]), _TILE_PX // 16, 3), 255, np.uint8)
    return jpeg_url(np.concatenate([columns[0], gap, *columns[1:]], axis=1), _JPEG_QUALITY)


def _tile(run: TrainingResult, row: int, image: NDArray[np.uint8] | None = None) -> dict[str, Any]:
    """Describe one test image and its prediction; ``score`` is the probability of the answer, 0..1.

    Args:
        run: Result of the training.
        row: Row of the image.
        image: Drawing to show instead, uint8 [H, W, 3] RGB.
    """
    labels, evaluation = run.data.labels, run.evaluation
    score = float(evaluation.answer_scores(np.array([row]))[0])
    path = run.data.samples[row].path
    return {
        "jpeg_url": jpeg_url(_tile_image(run.data.images([row])[0]) if image is None else image, _JPEG_QUALITY),
        "file": f"{path.parent.name}/{path.name}",
        "answer": labels[evaluation.answers[row]],
        "score": score,
        "label": labels[run.data.targets[row]],
        "is_rejected": score < evaluation.output.reject_threshold,
    }


def _tile_image(image_hwc_rgb_u8: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Scale an image of the model's input to a square that is sharp as a tile and when it is grown."""
    import cv2

    height = image_hwc_rgb_u8.shape[0]
    side_px = min(max(height, _TILE_PX), _GROWN_PX)
    way = cv2.INTER_AREA if height > side_px else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image_hwc_rgb_u8, (side_px, side_px), interpolation=way), np.uint8)
