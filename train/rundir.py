"""Write a run directory: the model, its contract, and everything that says how it came about."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from edge_runtime.atomic import atomic_directory
from edge_runtime.contract import MANIFEST_FILE, Head, Manifest, OutputSpec, TrainingSummary
from edge_runtime.datasets.samples import SPLIT_FILE, Split, count_per_split, fingerprint, write_split_csv
from edge_runtime.errors import OutputError
from edge_runtime.strict import to_mapping
from train.callbacks import Epoch
from train.finished import Run
from train.pictures import LEFT_OUT_FILE, write_left_out_csv
from train.recipe import WEIGHTS_IMAGENET, WEIGHTS_NONE, Recipe
from train.recipe_files import RECIPE_FILE, to_toml
from train.report import REPORT_FILE, render_report

MODEL_FILE = "model.keras"
HISTORY_FILE = "history.csv"
METRICS_FILE = "metrics.json"
TENSORBOARD_FOLDER = "tensorboard"


def write_run(out: Path, run: Run, model: Any, log_folder: Path, *, overwrite: bool) -> None:
    """Write the run directory in one step.

    Args:
        out: Its path.
        run: What it says.
        model: The trained Keras model.
        log_folder: TensorBoard logs to take along, if there are any.
        overwrite: Whether an existing run directory is replaced.

    Raises:
        OutputError: It exists and must not be replaced, or cannot be written.
    """
    try:
        with atomic_directory(out, marker=MANIFEST_FILE, overwrite=overwrite) as folder:
            model.save(folder / MODEL_FILE)
            (folder / MANIFEST_FILE).write_text(_manifest(run).to_json(), encoding="utf-8")
            (folder / RECIPE_FILE).write_text(to_toml(run.recipe), encoding="utf-8")
            write_split_csv(folder / SPLIT_FILE, run.pictures.samples)
            if run.pictures.left_out:
                write_left_out_csv(folder / LEFT_OUT_FILE, run.pictures.left_out)
            _write_history(folder / HISTORY_FILE, run.fitted.history)
            (folder / METRICS_FILE).write_text(json.dumps(_metrics(run), indent=2) + "\n", encoding="utf-8")
            (folder / REPORT_FILE).write_text(render_report(run), encoding="utf-8")
            if any(log_folder.iterdir()):
                shutil.copytree(log_folder, folder / TENSORBOARD_FOLDER)
                # The logs lay in a private temporary folder; here they may be read like everything else.
                (folder / TENSORBOARD_FOLDER).chmod((folder / RECIPE_FILE).stat().st_mode | 0o111)
    except OSError as error:
        raise OutputError(f"{out}: cannot be written ({error.strerror})") from error


def _manifest(run: Run) -> Manifest:
    scores, best = run.evaluation.scores, run.fitted.best
    training = TrainingSummary(
        recipe=run.recipe.name,
        weights=_weights_name(run.recipe),
        backend=run.backend,
        seed=run.recipe.seed,
        data_name=run.pictures.name,
        data_sha256=fingerprint(run.pictures.samples),
        images_per_split=count_per_split(run.pictures.samples),
        metrics={
            "train_accuracy": scores[Split.TRAIN].accuracy,
            "validation_accuracy": scores[Split.VALIDATION].accuracy,
            "test_accuracy": scores[Split.TEST].accuracy,
            "best_epoch": float(best.epoch),
            "validation_loss": best.val_loss,
        },
    )
    # A softmax answer counts as certain at any score until somebody fits a threshold.
    output = OutputSpec(Head.SOFTMAX, decision_threshold=0.0)
    return Manifest(run.model_name, run.pictures.labels, run.recipe.input.spec(), output, training)


def _weights_name(recipe: Recipe) -> str:
    weights = recipe.weights
    return weights if weights in (WEIGHTS_NONE, WEIGHTS_IMAGENET) else Path(weights).name


def _metrics(run: Run) -> dict[str, Any]:
    return {
        "splits": {split.value: to_mapping(scores) for split, scores in run.evaluation.scores.items()},
        "best": asdict(run.fitted.best),
        "epochs": len(run.fitted.history),
        "left_out": len(run.pictures.left_out),
        "fit_images_per_second": run.fitted.images_per_second,
        "feature_images_per_second": run.fitted.feature_images_per_second,
        "fit_seconds": run.fitted.seconds,
        "total_seconds": run.seconds,
    }


def _write_history(path: Path, history: Sequence[Epoch]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Epoch)], lineterminator="\n")
        writer.writeheader()
        writer.writerows({**asdict(row), "seconds": round(row.seconds, 3)} for row in history)
