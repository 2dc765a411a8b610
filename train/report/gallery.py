"""Image gallery of the run report: predictions, worst mistakes, augmentation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge_runtime.workstation.datasets.samples import Split
from edge_runtime.workstation.reporting.pages import jpeg_url

if TYPE_CHECKING:
    from train.evaluation.evaluate import TrainingResult


_MAX_TILES = 24
_TILE_PX = 128
_JPEG_QUALITY = 85
_AUGMENTED_IMAGES = 4
_AUGMENTED_VERSIONS = 5


@dataclass(frozen=True)
class Tile:
    """One test image.

    Attributes:
        jpeg_url: The image, embedded.
        file: Its folder and name.
        answer: The label that the model gives.
        score: Probability of it, 0..1.
        label: The truth.
        is_rejected: Whether the score lies under the reject threshold.
    """

    jpeg_url: str
    file: str
    answer: str
    score: float
    label: str
    is_rejected: bool


def predictions(run: TrainingResult) -> list[Tile]:
    """Test images drawn at random, so that right and wrong ones are as frequent as they are."""
    rows = run.data.rows(Split.TEST)
    chosen = np.random.default_rng(run.recipe.seed).permutation(rows)[:_MAX_TILES]
    return [_tile(run, int(row)) for row in chosen]


def worst_mistakes(run: TrainingResult) -> list[Tile]:
    """Wrong answers on test images, the most certain first."""
    rows = run.data.rows(Split.TEST)
    wrong = rows[run.evaluation.answers[rows] != run.data.targets[rows]]
    order = np.argsort(-run.evaluation.answer_scores(wrong), kind="stable")
    return [_tile(run, int(row)) for row in wrong[order][:_MAX_TILES]]


def augmented_url(run: TrainingResult) -> str | None:
    """Training images in the first column and changed versions beside them; None where nothing is changed."""
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


def _tile(run: TrainingResult, row: int) -> Tile:
    labels, evaluation = run.data.labels, run.evaluation
    score = float(evaluation.answer_scores(np.array([row]))[0])
    path = run.data.samples[row].path
    return Tile(
        jpeg_url(_tile_image(run.data.images([row])[0]), _JPEG_QUALITY),
        f"{path.parent.name}/{path.name}",
        labels[evaluation.answers[row]],
        score,
        labels[run.data.targets[row]],
        score < evaluation.output.reject_threshold,
    )


def _tile_image(image_hwc_rgb_u8: NDArray[np.uint8]) -> NDArray[np.uint8]:
    import cv2

    way = cv2.INTER_AREA if image_hwc_rgb_u8.shape[0] > _TILE_PX else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image_hwc_rgb_u8, (_TILE_PX, _TILE_PX), interpolation=way), np.uint8)
