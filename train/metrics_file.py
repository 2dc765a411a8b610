"""A run's ``metrics.json``: the report's figures for programs.

Shares are 0..1, times in seconds, losses in nats; a figure that does not exist is null.

- ``splits``: per part (train, validation, test) `train.evaluation.metrics.Scores`; for more than 100 classes
  ``confusion`` is null and ``confusion_counts`` lists those that are not 0, as true class, answer, pictures.
- ``before_training``: validation ``loss`` and ``accuracy`` of the untrained network.
- ``best``: the kept epoch, as in ``history.csv``; ``best_per_phase``: the best of each phase.
- ``epochs``: how many were run. ``left_out``: files that were not used.
- ``findings``: what the audit found, ``findings`` and ``files`` per kind.
- ``output``: head and thresholds, as in ``manifest.json``.
- ``calibration``: `train.evaluation.calibration.Calibration`.
- ``ranking``: ``macro`` means, and per label ``roc_auc`` and ``average_precision`` on the test pictures.
- ``thresholds``: `train.evaluation.thresholds.ThresholdScores` on the test pictures; empty for a softmax head.
- ``rejection``: `train.evaluation.thresholds.Rejection` on the test pictures.
- ``speeds``: per phase that ran in this process `train.fitting.fit.PhaseSpeed`; ``feature_images_per_second``.
- ``hardware``: `train.hardware.Hardware`.
- ``fit_seconds``, ``total_seconds``: wall time since the last resume.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from edge_runtime.strict import to_mapping
from train.evaluation.metrics import Scores
from train.evaluation.ranking import mean_ranking
from train.finished import Run
from train.fitting.history import best_epoch

_MAX_CONFUSION_CLASSES = 100


def metrics_mapping(run: Run) -> dict[str, Any]:
    """Everything that ``metrics.json`` holds; see the module's docstring."""
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
        "left_out": len(run.pictures.left_out),
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


def _findings(run: Run) -> dict[str, dict[str, int]]:
    """Per kind of finding, in the order of the audit: how many there are, and how many files they are about."""
    counts: dict[str, dict[str, int]] = {}
    for finding in run.pictures.findings:
        entry = counts.setdefault(finding.kind.value, {"findings": 0, "files": 0})
        entry["findings"] += 1
        entry["files"] += len(finding.samples)
    return counts


def _scores(scores: Scores) -> dict[str, Any]:
    if len(scores.classes) <= _MAX_CONFUSION_CLASSES:
        return to_mapping(scores)
    counts = [[i, j, count] for i, row in enumerate(scores.confusion) for j, count in enumerate(row) if count]
    return {**to_mapping(replace(scores, confusion=())), "confusion": None, "confusion_counts": counts}


def _ranking(run: Run) -> dict[str, Any]:
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
    """JSON knows neither NaN nor infinity, which a diverging epoch can have."""
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
