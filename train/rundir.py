"""Write a run directory: model, manifest, ``metrics.json``, history, report.

Contents of ``metrics.json``; shares are 0..1, times in seconds, losses in nats, unavailable values null:

- ``splits``: per split (train, validation, test) `train.evaluation.metrics.Scores`; for more than 100 classes
  ``confusion`` is null and ``confusion_counts`` lists the nonzero cells as true class, answer, images.
- ``before_training``: validation ``loss`` and ``accuracy`` of the untrained network.
- ``best``: the kept epoch, as in ``history.csv``; ``best_per_phase``: the best of each phase.
- ``epochs``: number of epochs. ``left_out``: number of files left out.
- ``findings``: numbers of ``findings`` and ``files`` per kind of audit finding.
- ``output``: head and thresholds, as in ``manifest.json``.
- ``calibration``: `train.evaluation.calibration.Calibration`.
- ``ranking``: ``macro`` means, and per label ``roc_auc`` and ``average_precision`` on the test images.
- ``thresholds``: `train.evaluation.calibration.ThresholdScores` on the test images; empty for a softmax head.
- ``rejection``: `train.evaluation.calibration.Rejection` on the test images.
- ``speeds``: `train.fitting.fit.PhaseSpeed` per phase run in this process; ``feature_images_per_second``.
- ``hardware``: `train.hardware.Hardware`.
- ``fit_seconds``, ``total_seconds``: wall time since the last resume.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_runtime.contract import MANIFEST_FILE, Manifest, TrainingSummary
from edge_runtime.errors import OutputError
from edge_runtime.platform.atomic import atomic_directory
from edge_runtime.strict import to_mapping
from edge_runtime.workstation.datasets.samples import SPLIT_FILE, Split, count_per_split, fingerprint, write_split_csv
from train.evaluation.metrics import Scores, mean_ranking
from train.fitting.training_state import TENSORBOARD_FOLDER, best_epoch, write_history_csv
from train.intake.images import LEFT_OUT_FILE, write_left_out_csv
from train.recipe import RECIPE_FILE, WEIGHTS_IMAGENET, WEIGHTS_NONE, to_toml
from train.saving import Format, save_model

if TYPE_CHECKING:
    from train.evaluation.evaluate import TrainingResult

HISTORY_FILE = "history.csv"
METRICS_FILE = "metrics.json"
_MAX_CONFUSION_CLASSES = 100


def write_run(
    out: Path, run: TrainingResult, model: Any, work_folder: Path, also: Iterable[Format], *, overwrite: bool
) -> None:
    """Write the run directory in one step.

    Args:
        out: Path of the run directory.
        run: Result of the training.
        model: Trained Keras model.
        work_folder: Folder with TensorBoard's logs, which are copied if present.
        also: Formats of the model besides ``.keras``.
        overwrite: True to replace an existing run directory.

    Raises:
        OutputError: ``out`` exists and ``overwrite`` is false, or it cannot be written.
    """
    # The page imports Keras, which the command line must not load.
    from train.report.page import REPORT_FILE, render_report

    try:
        with atomic_directory(out, marker=MANIFEST_FILE, overwrite=overwrite) as folder:
            save_model(folder, model, also)
            (folder / MANIFEST_FILE).write_text(_manifest(run).to_json(), encoding="utf-8")
            (folder / RECIPE_FILE).write_text(to_toml(run.recipe), encoding="utf-8")
            write_split_csv(folder / SPLIT_FILE, run.data.samples)
            if run.data.left_out:
                write_left_out_csv(folder / LEFT_OUT_FILE, run.data.left_out)
            write_history_csv(folder / HISTORY_FILE, run.fitted.history)
            (folder / METRICS_FILE).write_text(json.dumps(metrics_mapping(run), indent=2) + "\n", encoding="utf-8")
            (folder / REPORT_FILE).write_text(render_report(run, model), encoding="utf-8")
            if (work_folder / TENSORBOARD_FOLDER).is_dir():
                shutil.copytree(work_folder / TENSORBOARD_FOLDER, folder / TENSORBOARD_FOLDER)
    except OSError as error:
        raise OutputError(f"{out}: cannot be written ({error.strerror})") from error


def _manifest(run: TrainingResult) -> Manifest:
    scores, best, weights = run.evaluation.scores, run.fitted.best, run.recipe.weights
    training = TrainingSummary(
        recipe=run.recipe.name,
        weights=weights if weights in (WEIGHTS_NONE, WEIGHTS_IMAGENET) else Path(weights).name,
        backend=run.backend,
        seed=run.recipe.seed,
        data_name=run.data.name,
        data_sha256=fingerprint(run.data.samples),
        images_per_split=count_per_split(run.data.samples),
        metrics={
            "train_accuracy": scores[Split.TRAIN].accuracy,
            "validation_accuracy": scores[Split.VALIDATION].accuracy,
            "test_accuracy": scores[Split.TEST].accuracy,
            "best_epoch": float(best.epoch),
            "validation_loss": best.val_loss,
        },
    )
    return Manifest(run.model_name, run.data.labels, run.recipe.input.spec(), run.evaluation.output, training)


def metrics_mapping(run: TrainingResult) -> dict[str, Any]:
    """Return the contents of ``metrics.json``; see the module docstring."""
    evaluation, fitted = run.evaluation, run.fitted
    loss, accuracy = fitted.before_training
    phases = dict.fromkeys(row.phase for row in fitted.history)
    best = {phase: best_epoch([row for row in fitted.history if row.phase == phase]) for phase in phases}
    figures = {
        "splits": {split.value: _scores(scores) for split, scores in evaluation.scores.items()},
        "before_training": {"loss": loss, "accuracy": accuracy},
        "best": to_mapping(fitted.best),
        "best_per_phase": {phase: to_mapping(row) for phase, row in best.items()},
        "epochs": len(fitted.history),
        "left_out": len(run.data.left_out),
        "findings": _findings(run),
        "output": to_mapping(evaluation.output),
        "calibration": to_mapping(evaluation.calibration),
        "ranking": _ranking(run),
        "thresholds": to_mapping(evaluation.thresholds),
        "rejection": to_mapping(evaluation.rejection),
        "speeds": {phase: to_mapping(speed) for phase, speed in fitted.speeds.items()},
        "feature_images_per_second": fitted.feature_images_per_second,
        "hardware": to_mapping(run.hardware),
        "fit_seconds": fitted.seconds,
        "total_seconds": run.seconds,
    }
    return {name: _finite(value) for name, value in figures.items()}


def _findings(run: TrainingResult) -> dict[str, dict[str, int]]:
    """Count findings and their files by kind, in the order of the audit."""
    counts: dict[str, dict[str, int]] = {}
    for finding in run.data.findings:
        entry = counts.setdefault(finding.kind.value, {"findings": 0, "files": 0})
        entry["findings"] += 1
        entry["files"] += len(finding.samples)
    return counts


def _scores(scores: Scores) -> dict[str, Any]:
    if len(scores.classes) <= _MAX_CONFUSION_CLASSES:
        return to_mapping(scores)
    counts = [[i, j, count] for i, row in enumerate(scores.confusion) for j, count in enumerate(row) if count]
    return {**to_mapping(replace(scores, confusion=())), "confusion": None, "confusion_counts": counts}


def _ranking(run: TrainingResult) -> dict[str, Any]:
    entries = run.evaluation.ranking
    return {
        "macro": {
            "roc_auc": mean_ranking([entry.roc_auc for entry in entries]),
            "average_precision": mean_ranking([entry.average_precision for entry in entries]),
        },
        "classes": [
            {"label": entry.label, "roc_auc": entry.roc_auc, "average_precision": entry.average_precision}
            for entry in entries
        ],
    }


def _finite(value: Any) -> Any:
    """Replace NaN and infinity, which JSON lacks and a diverging epoch can have, by None."""
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
