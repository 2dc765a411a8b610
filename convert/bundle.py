"""Write a bundle: manifest, labels, artifacts, golden inputs with outputs, and the conversion report."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convert.job import GOLDEN_INPUT_FILE
from convert.report import render
from convert.run_source import RunSource
from edge_runtime.atomic import atomic_directory
from edge_runtime.contract import GOLDEN_FILE, LABELS_FILE, MANIFEST_FILE, Artifact, Manifest
from edge_runtime.labels import to_text

REPORT_FILE = "conversion.md"


def write_bundle(destination: Path, measured: Manifest, work_dir: Path, source: RunSource, overwrite: bool) -> None:
    """Write the bundle in one step; artifacts that failed their check are reported and left out.

    Nothing is written when every artifact failed.

    Args:
        destination: The bundle's folder.
        measured: Manifest with every artifact.
        work_dir: Holds the artifacts and arrays.
        source: What was converted.
        overwrite: Whether an existing bundle is replaced.
    """
    passed = tuple(artifact for artifact in measured.artifacts if artifact.check and artifact.check.passed)
    if not passed:
        return
    manifest = replace(measured, artifacts=passed)
    with atomic_directory(destination, marker=MANIFEST_FILE, overwrite=overwrite) as folder:
        for artifact in passed:
            shutil.copyfile(work_dir / artifact.file, folder / artifact.file)
        (folder / LABELS_FILE).write_text(to_text(manifest.labels), encoding="utf-8")
        np.savez(folder / GOLDEN_FILE, allow_pickle=False, **_golden(work_dir, passed))
        (folder / REPORT_FILE).write_text(render(measured, source), encoding="utf-8")
        (folder / MANIFEST_FILE).write_text(manifest.to_json(), encoding="utf-8")


def _golden(work_dir: Path, artifacts: tuple[Artifact, ...]) -> dict[str, NDArray[Any]]:
    """``images_nhwc_rgb_u8``, ``keras``, and each variant's probabilities as the checking engine gave them."""
    arrays = {
        "images_nhwc_rgb_u8": np.load(work_dir / GOLDEN_INPUT_FILE),
        "keras": np.load(work_dir / f"keras-{GOLDEN_INPUT_FILE}"),
    }
    for artifact in artifacts:
        arrays[artifact.variant.value] = np.load(work_dir / f"{artifact.file}-{GOLDEN_INPUT_FILE}")
    return arrays
