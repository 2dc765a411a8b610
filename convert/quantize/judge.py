"""The gate as the quantizer uses it while it looks for a model that passes: accuracy and agreement on the check set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convert.check.compare import points
from convert.check.record import Step
from convert.quantize.interpreting import latency_ms, probabilities
from edge_runtime.contract import OutputSpec
from edge_runtime.decision import top1, widen


@dataclass(frozen=True)
class Judge:
    """Keras' side and the limit.

    Attributes:
        images_nhwc_rgb_u8: The check pictures, uint8 [n, H, W, 3].
        truth: int [n].
        keras: float32 [n, labels], Keras' probabilities.
        output: How probabilities become an answer.
        max_drop_points: Allowed loss of accuracy, percentage points.
    """

    images_nhwc_rgb_u8: NDArray[np.uint8]
    truth: NDArray[np.int64]
    keras: NDArray[np.float32]
    output: OutputSpec
    max_drop_points: float

    def step(self, data: bytes, description: str) -> Step:
        """Measure one model that takes uint8 pictures."""
        answers = top1(widen(probabilities(data, self.images_nhwc_rgb_u8), self.output), self.output)
        keras_answers = top1(self.keras, self.output)
        accuracy = float(np.mean(answers == self.truth))
        drop = points(float(np.mean(keras_answers == self.truth)) - accuracy)
        return Step(
            description=description,
            accuracy=accuracy,
            agreement=float(np.mean(answers == keras_answers)),
            bytes=len(data),
            latency_ms=latency_ms(data),
            passed=drop <= self.max_drop_points,
        )
