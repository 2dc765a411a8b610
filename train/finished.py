"""What a finished training knows, before it is written."""

from __future__ import annotations

from dataclasses import dataclass

from train.evaluation.evaluate import Evaluation
from train.fitting.fit import Fitted
from train.hardware import Hardware
from train.intake.pictures import Pictures
from train.recipe import Recipe


@dataclass(frozen=True)
class Run:
    """Everything that a run directory says.

    Attributes:
        model_name: Stem of the artifacts' file names later.
        recipe: As it was carried out.
        backend: Keras backend and version.
        hardware: What it ran on.
        pictures: The set.
        fitted: How training went.
        evaluation: What the kept model answers.
        seconds: Wall time from pictures to evaluation, in seconds; since the last resume.
    """

    model_name: str
    recipe: Recipe
    backend: str
    hardware: Hardware
    pictures: Pictures
    fitted: Fitted
    evaluation: Evaluation
    seconds: float
