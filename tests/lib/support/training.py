"""Recipes and histories of small trainings."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

from train.recipe import Recipe, load_recipe, override

if TYPE_CHECKING:
    from train.network.models import Network

QUICK = ("--image-size", "32", "--epochs", "2", "--batch-size", "8")


def cnn(**changes: object) -> Recipe:
    """Load the recipe cnn-small at 32 pixels with changed fields."""
    return override(load_recipe("cnn-small"), {"input.image_size": 32, **changes})


def curve(run: Path) -> list[dict[str, str]]:
    """Read the history of a run directory without its seconds."""
    with (run / "history.csv").open() as file:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def build(recipe: Recipe, label_count: int) -> Network:
    """Build the network of a recipe; imports Keras."""
    from train.network.models import build as build_network

    return build_network(recipe, label_count)
