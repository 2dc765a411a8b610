"""Write a bundle: manifest, labels, artifacts, golden inputs with outputs, and the conversion report."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convert.arrays import Arrays
from convert.check.record import RECORD_FILE, ConversionRecord
from convert.job import CHECK_FILE, GOLDEN_INPUT_FILE
from convert.report.markdown import render
from convert.report.page import render_page
from edge_runtime.atomic import atomic_directory
from edge_runtime.contract import GOLDEN_FILE, LABELS_FILE, MANIFEST_FILE, Artifact, Manifest
from edge_runtime.labels import to_text

REPORT_FILE = "conversion.html"
MARKDOWN_FILE = "conversion.md"


def write_bundle(
    destination: Path, record: ConversionRecord, manifest: Manifest, work_dir: Path, arrays: Arrays, *, overwrite: bool
) -> None:
    """Write the bundle in one step; artifacts that failed their check are reported and left out.

    Nothing is written when every artifact failed.

    Args:
        destination: The bundle's folder.
        record: What was measured.
        manifest: Of the model, without artifacts.
        work_dir: Holds the artifacts and arrays.
        arrays: Names of the check pictures.
        overwrite: Whether an existing bundle is replaced.
    """
    passed = tuple(variant.artifact for variant in record.passed)
    if not passed:
        return
    pictures = np.load(work_dir / CHECK_FILE, mmap_mode="r")
    names = [sample.path.name for sample in arrays.check]
    with atomic_directory(destination, marker=MANIFEST_FILE, overwrite=overwrite) as folder:
        for artifact in passed:
            shutil.copyfile(work_dir / artifact.file, folder / artifact.file)
        (folder / LABELS_FILE).write_text(to_text(manifest.labels), encoding="utf-8")
        np.savez(folder / GOLDEN_FILE, allow_pickle=False, **_golden(work_dir, passed))
        (folder / RECORD_FILE).write_text(record.to_json(), encoding="utf-8")
        (folder / REPORT_FILE).write_text(render_page(record, pictures, names), encoding="utf-8")
        (folder / MARKDOWN_FILE).write_text(render(record), encoding="utf-8")
        (folder / MANIFEST_FILE).write_text(replace(manifest, artifacts=passed).to_json(), encoding="utf-8")


def _golden(work_dir: Path, artifacts: tuple[Artifact, ...]) -> dict[str, NDArray[Any]]:
    """``images_nhwc_rgb_u8``, ``keras``, and each variant's probabilities as the checking engine gave them."""
    arrays = {
        "images_nhwc_rgb_u8": np.load(work_dir / GOLDEN_INPUT_FILE),
        "keras": np.load(work_dir / f"keras-{GOLDEN_INPUT_FILE}"),
    }
    for artifact in artifacts:
        arrays[artifact.variant.value] = np.load(work_dir / f"{artifact.file}-{GOLDEN_INPUT_FILE}")
    return arrays
