"""Recipes and histories of small trainings."""

import csv

from train.recipe import load_recipe, override

QUICK = ("--image-size", "32", "--epochs", "2", "--batch-size", "8")


def cnn(**changes):
    """Load the recipe cnn-small at 32 pixels with changed fields."""
    return override(load_recipe("cnn-small"), {"input.image_size": 32, **changes})


def curve(run):
    """Read the history of a run directory without its seconds."""
    with (run / "history.csv").open() as file:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def build(recipe, label_count):
    """Build the network of a recipe; imports Keras."""
    from train.network.models import build as build_network

    return build_network(recipe, label_count)
