"""Body of ``edge-train predict``: classify images with the trained Keras model, before any export."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from edge_runtime.classifier import top1, widen
from edge_runtime.contract import Manifest
from edge_runtime.errors import ImageError, ModelError
from edge_runtime.model.bundle import read_bundle_manifest
from edge_runtime.preprocess import load_prepared
from edge_runtime.results import Failed
from edge_runtime.sources.images import find_images
from edge_runtime.text import escape
from train.hardware import load_keras
from train.saving import MODEL_FILE, load_model

_BATCH_SIZE = 32


def predict_images(run: Path, paths: Sequence[Path]) -> int:
    """Print source, label and score of each image, separated by tabs.

    Returns:
        Exit code: 1 if some images cannot be read, else 0.

    Raises:
        ModelError: ``run`` is not a run directory.
    """
    if not (run / MODEL_FILE).is_file():
        raise ModelError(f"{run}: expected a run directory with {MODEL_FILE}; make one with edge-train run")
    manifest = read_bundle_manifest(run)
    load_keras(0)
    model = load_model(run / MODEL_FILE)
    failures = 0
    for sources, images, problems in _batches(paths, manifest):
        for problem in problems:
            failures += 1
            click.echo(f"{escape(problem.source)}\terror: {escape(problem.message)}")
        if sources:
            _print_prediction(model, manifest, sources, np.stack(images))
    return int(failures > 0)


def _print_prediction(
    model: Any, manifest: Manifest, sources: Sequence[str], images_nhwc_rgb_u8: NDArray[np.uint8]
) -> None:
    outputs = np.asarray(model.predict(images_nhwc_rgb_u8, batch_size=_BATCH_SIZE, verbose=0), np.float32)
    probabilities = widen(outputs, manifest.output)
    answers = top1(probabilities, manifest.output)
    for source, answer, row in zip(sources, answers, probabilities, strict=True):
        click.echo(f"{escape(source)}\t{escape(manifest.labels[answer])}\t{row[answer]:.4f}")


def _batches(
    paths: Sequence[Path], manifest: Manifest
) -> Iterator[tuple[list[str], list[NDArray[np.uint8]], list[Failed]]]:
    """Sources and prepared images, up to 32 at a time, and what could not be read among them."""
    sources: list[str] = []
    images: list[NDArray[np.uint8]] = []
    problems: list[Failed] = []
    for item in find_images(paths):
        if isinstance(item, Failed):
            problems.append(item)
            continue
        try:
            images.append(load_prepared(item, manifest.input))
            sources.append(str(item))
        except ImageError as error:
            problems.append(Failed.of(str(item), error))
        if len(images) == _BATCH_SIZE:
            yield sources, images, problems
            sources, images, problems = [], [], []
    yield sources, images, problems
