"""Calibrate the kept model and evaluate it on every split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from edge_runtime.classifier import top1, widen
from edge_runtime.contract import Head, OutputSpec
from edge_runtime.errors import EdgeKitError
from edge_runtime.workstation.datasets.samples import Split
from train.evaluation.calibration import (
    HALF,
    Calibration,
    Rejection,
    ThresholdScores,
    best_f1_threshold,
    check_folded,
    fit_temperature,
    fold,
    log_softmax,
    nll,
    reject_threshold,
    rejection,
    reliability,
    scores_at,
)
from train.evaluation.metrics import Ranking, Scores, rank, score
from train.fitting.fit import Fitted
from train.fitting.phases import predict
from train.hardware import Hardware
from train.intake.images import TrainingData
from train.network.models import OUTPUT_LAYER
from train.recipe import HeadSettings, Recipe, ThresholdRule

_CHECKED_IMAGES = 8
_FEATURE_BATCH = 256


@dataclass(frozen=True)
class Evaluation:
    """Answers of a model and their metrics.

    Attributes:
        output: Head and thresholds, for the manifest.
        probabilities: float32 [images, labels], in the order of the samples.
        answers: int64 [images], label indices.
        scores: Classification metrics by split.
        ranking: Ranking curves by label, on the test images.
        calibration: Effect of the temperature.
        thresholds: Metrics of a sigmoid head at the decision threshold and at 0.5, on the test images.
        rejection: Effect of the reject threshold on the test images.
    """

    output: OutputSpec
    probabilities: NDArray[np.float32]
    answers: NDArray[np.int64]
    scores: dict[Split, Scores]
    ranking: tuple[Ranking, ...]
    calibration: Calibration
    thresholds: tuple[ThresholdScores, ...]
    rejection: Rejection

    def answer_scores(self, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return the probability of the answer to each of the given images, float32 [n]."""
        return self.probabilities[rows, self.answers[rows]]


def evaluate(
    model: Any, data: TrainingData, recipe: Recipe, *, head: Any = None, features: NDArray[np.float32] | None = None
) -> Evaluation:
    """Calibrate the model that will be saved, and measure it on every split.

    Each image passes through the network once, or through the head alone if its features are known. Calibration
    divides the weights of the last layer by the temperature; the answers stay the same.

    Args:
        model: Trained model from `train.network.models.build`; its last layer may be changed.
        data: Images, labels and splits.
        recipe: Recipe, of which the head is used.
        head: Upper half of the model, features to probabilities, sharing its layers.
        features: float32 [images, d], features of every image from the lower half of the model; None if unknown.

    Raises:
        EdgeKitError: An output of the model is not finite.
    """
    if features is None:
        logits = predict(_logits_model(model), data.images_nhwc_rgb_u8, data.image_rows, "evaluating")
    else:
        x = head.input
        for layer in head.layers[1:-1]:
            x = layer(x)
        logits = _logits_model(head, x).predict(features, batch_size=_FEATURE_BATCH, verbose=0)
    broken = int((~np.isfinite(logits).all(axis=1)).sum())
    if broken:
        raise EdgeKitError(
            f"training diverged: the outputs of {broken} of {len(logits)} images are not finite; "
            "lower optimizer.learning_rate"
        )
    validation, test = data.rows(Split.VALIDATION), data.rows(Split.TEST)
    fitted_on, truth = _two_columns(logits[validation]), data.targets[validation]
    temperature = fit_temperature(fitted_on, truth) if recipe.head.calibrate else 1.0
    if temperature != 1.0:
        _fold(model, temperature, data)
    plain = OutputSpec(recipe.head.kind, HALF if recipe.head.kind is Head.SIGMOID else 0.0)
    before, after = (widen(_outputs(logits, t), plain) for t in (1.0, temperature))
    threshold = _decision_threshold(recipe.head, after[validation], truth)
    answers = top1(after, OutputSpec(recipe.head.kind, threshold))
    is_right = answers == data.targets
    certainty, certainty_before = (p[np.arange(len(p)), answers] for p in (after, before))
    reject = reject_threshold(certainty[validation], is_right[validation])
    thresholds: tuple[ThresholdScores, ...] = ()
    if recipe.head.kind is Head.SIGMOID:
        wanted = dict.fromkeys([threshold, HALF])
        thresholds = tuple(scores_at(value, after[test, 1], data.targets[test] == 1) for value in wanted)
    calibration = Calibration(
        temperature,
        nll(fitted_on, truth),
        nll(fitted_on, truth, temperature),
        reliability(certainty_before[test], is_right[test]),
        reliability(certainty[test], is_right[test]),
    )
    return Evaluation(
        OutputSpec(recipe.head.kind, threshold, reject),
        after,
        answers,
        {split: score(answers[r], data.targets[r], data.labels) for split in Split for r in [data.rows(split)]},
        rank(after[test], data.targets[test], data.labels),
        calibration,
        thresholds,
        rejection(reject, certainty[test], is_right[test]),
    )


def _logits_model(model: Any, inside: Any = None) -> Any:
    """Copy a model without softmax or sigmoid, since logits cannot be recovered from rounded probabilities.

    ``inside`` is the input of the last layer, by default that of its first use.
    """
    last = model.get_layer(OUTPUT_LAYER)
    linear = keras.layers.Dense(last.units, dtype="float32", name="logits")
    without = keras.Model(model.input, linear(last.input if inside is None else inside))
    linear.set_weights(last.get_weights())
    return without


def _two_columns(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Widen sigmoid logits: a sigmoid of z is a softmax of (0, z)."""
    return np.pad(logits, ((0, 0), (1, 0))) if logits.shape[1] == 1 else logits


def _outputs(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """Compute the outputs of the model, float32 [n, labels] of a softmax or [n, 1] of a sigmoid."""
    probabilities = np.exp(log_softmax(_two_columns(logits), temperature)).astype(np.float32)
    return probabilities[:, 1:] if logits.shape[1] == 1 else probabilities


def _fold(model: Any, temperature: float, data: TrainingData) -> None:
    """Divide the last layer by the temperature, and check the outputs of a few images against the formula."""
    images = data.images(np.arange(min(_CHECKED_IMAGES, len(data.samples)))).astype(np.float32)
    logits = keras.ops.convert_to_numpy(_logits_model(model)(images, training=False))
    fold(model.get_layer(OUTPUT_LAYER), temperature)
    check_folded(keras.ops.convert_to_numpy(model(images, training=False)), _outputs(logits, temperature))


def _decision_threshold(head: HeadSettings, probabilities: NDArray[np.float32], targets: NDArray[np.int64]) -> float:
    if head.kind is Head.SOFTMAX:
        return 0.0
    if head.threshold is ThresholdRule.HALF:
        return HALF
    return best_f1_threshold(probabilities[:, 1], targets == 1)


@dataclass(frozen=True)
class TrainingResult:
    """Contents of a run directory.

    Attributes:
        model_name: Name of the model and stem of its artifacts' file names.
        recipe: Resolved recipe of the training.
        backend: Keras backend and version.
        hardware: Devices and precision of the training.
        data: Images, labels and splits.
        fitted: Result of fitting.
        evaluation: Answers and metrics of the kept model.
        seconds: Wall time since the last resume in seconds, from reading images to evaluation.
    """

    model_name: str
    recipe: Recipe
    backend: str
    hardware: Hardware
    data: TrainingData
    fitted: Fitted
    evaluation: Evaluation
    seconds: float
