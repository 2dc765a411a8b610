"""What the kept model answers on every part of the set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.datasets.samples import Split
from train.fitting import predict
from train.metrics import Scores, score
from train.pictures import Pictures


@dataclass(frozen=True)
class Evaluation:
    """Answers and their scores.

    Attributes:
        probabilities: float32 [pictures, labels], in the order of the set.
        scores: Per part.
    """

    probabilities: NDArray[np.float32]
    scores: dict[Split, Scores]


def evaluate(model: Any, pictures: Pictures) -> Evaluation:
    """Run the model that will be saved over every picture and score each part."""
    probabilities = predict(model, pictures.images_nhwc_rgb_u8, "evaluating")
    answers = probabilities.argmax(axis=1)
    scores = {
        split: score(answers[rows], pictures.targets[rows], pictures.labels)
        for split in Split
        for rows in [pictures.rows(split)]
    }
    return Evaluation(probabilities, scores)
