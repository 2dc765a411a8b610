"""Read a run directory: the Keras model, its manifest, and the labelled pictures for calibration and checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_runtime.cli_support import progress_bar
from edge_runtime.contract import MANIFEST_FILE, Manifest
from edge_runtime.datasets.resolve import resolve
from edge_runtime.datasets.samples import SPLIT_FILE, Sample, Split, read_split_csv
from edge_runtime.errors import DatasetError, ModelError
from edge_runtime.modelfile import read_bundle_manifest

MODEL_FILE = "model.keras"
_GOLDEN_COUNT = 8


@dataclass(frozen=True)
class RunSource:
    """What is converted.

    Attributes:
        model_path: The ``.keras`` file.
        manifest: Of the run.
        representative: Pictures of the training split for calibration, stratified by class.
        check: Pictures of the validation split.
        golden: A few of ``check``, stratified by class, that travel with the bundle.
    """

    model_path: Path
    manifest: Manifest
    representative: tuple[Sample, ...]
    check: tuple[Sample, ...]
    golden: tuple[Sample, ...]


def read_run(run: Path, calibration: str | None, calibration_images: int) -> RunSource:
    """Read a run directory.

    Args:
        run: What ``edge-train run`` wrote.
        calibration: SRC that takes the place of the run's own pictures, or None.
        calibration_images: How many pictures of the training split to calibrate with.

    Raises:
        ModelError: Not a run directory.
        DatasetError: Its pictures are gone, or SRC's labels are not the model's.
    """
    if not (run / MODEL_FILE).is_file():
        raise ModelError(
            f"{run}: expected a run directory with {MODEL_FILE} and {MANIFEST_FILE}; "
            "make one with edge-train run (other model files cannot be converted yet)"
        )
    manifest = read_bundle_manifest(run)
    samples = resolve(calibration, progress=progress_bar).samples if calibration else _own_samples(run)
    unknown = sorted({sample.label for sample in samples} - set(manifest.labels))
    if unknown:
        raise DatasetError(f"{calibration or run}: holds labels the model does not know: {', '.join(unknown)}")
    train = [sample for sample in samples if sample.split in (Split.TRAIN, None)]
    check = [sample for sample in samples if sample.split is Split.VALIDATION] or list(samples)
    seed = manifest.training.seed if manifest.training else 0
    return RunSource(
        model_path=run / MODEL_FILE,
        manifest=manifest,
        representative=stratified(train or list(samples), calibration_images, seed),
        check=tuple(check),
        golden=stratified(check, _GOLDEN_COUNT, seed),
    )


def stratified(samples: Sequence[Sample], count: int, seed: int) -> tuple[Sample, ...]:
    """Choose ``count`` pictures, the classes taking turns, each class in a seeded order; fewer if there are fewer."""
    rng = np.random.default_rng(seed)
    queues = []
    for label in sorted({sample.label for sample in samples}):
        members = [sample for sample in samples if sample.label == label]
        queues.append([members[index] for index in rng.permutation(len(members))])
    chosen: list[Sample] = []
    depth = 0
    while len(chosen) < min(count, len(samples)):
        chosen.extend(queue[depth] for queue in queues if depth < len(queue))
        depth += 1
    return tuple(chosen[:count])


def _own_samples(run: Path) -> tuple[Sample, ...]:
    samples = read_split_csv(run / SPLIT_FILE)
    missing = next((sample.path for sample in samples if not sample.path.is_file()), None)
    if missing:
        raise DatasetError(
            f"{run}: its pictures are not here (such as {missing}); "
            "give labelled pictures with --calibration: a folder of class folders, a zip or URL of one, or a CSV"
        )
    return samples
