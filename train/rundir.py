"""Write a run directory: the model, its contract, and everything that says how it came about."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from edge_runtime.atomic import atomic_directory
from edge_runtime.contract import MANIFEST_FILE, Manifest, TrainingSummary
from edge_runtime.datasets.samples import SPLIT_FILE, Split, count_per_split, fingerprint, write_split_csv
from edge_runtime.errors import OutputError
from train.finished import Run
from train.fitting.fit import TENSORBOARD_FOLDER
from train.fitting.history import write_history_csv
from train.intake.pictures import LEFT_OUT_FILE, write_left_out_csv
from train.metrics_file import metrics_mapping
from train.recipe import Recipe
from train.recipe_files import RECIPE_FILE, to_toml
from train.report.page import REPORT_FILE, render_report
from train.saving import Format, save_model
from train.settings import WEIGHTS_IMAGENET, WEIGHTS_NONE

HISTORY_FILE = "history.csv"
METRICS_FILE = "metrics.json"


def write_run(out: Path, run: Run, model: Any, work_folder: Path, also: Iterable[Format], *, overwrite: bool) -> None:
    """Write the run directory in one step.

    Args:
        out: Its path.
        run: What it says.
        model: The trained Keras model.
        work_folder: Holds TensorBoard's logs to take along, if there are any.
        also: Formats to save the model in besides ``.keras``.
        overwrite: Whether an existing run directory is replaced.

    Raises:
        OutputError: It exists and must not be replaced, or cannot be written.
    """
    try:
        with atomic_directory(out, marker=MANIFEST_FILE, overwrite=overwrite) as folder:
            save_model(folder, model, also)
            (folder / MANIFEST_FILE).write_text(_manifest(run).to_json(), encoding="utf-8")
            (folder / RECIPE_FILE).write_text(to_toml(run.recipe), encoding="utf-8")
            write_split_csv(folder / SPLIT_FILE, run.pictures.samples)
            if run.pictures.left_out:
                write_left_out_csv(folder / LEFT_OUT_FILE, run.pictures.left_out)
            write_history_csv(folder / HISTORY_FILE, run.fitted.history)
            (folder / METRICS_FILE).write_text(json.dumps(metrics_mapping(run), indent=2) + "\n", encoding="utf-8")
            (folder / REPORT_FILE).write_text(render_report(run), encoding="utf-8")
            if (work_folder / TENSORBOARD_FOLDER).is_dir():
                shutil.copytree(work_folder / TENSORBOARD_FOLDER, folder / TENSORBOARD_FOLDER)
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
    return Manifest(run.model_name, run.pictures.labels, run.recipe.input.spec(), run.evaluation.output, training)


def _weights_name(recipe: Recipe) -> str:
    weights = recipe.weights
    return weights if weights in (WEIGHTS_NONE, WEIGHTS_IMAGENET) else Path(weights).name
