"""Decode every picture of a conversion once, into arrays that all child processes share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convert.job import CHECK_FILE, GOLDEN_INPUT_FILE, REPRESENTATIVE_FILE, TRUTH_FILE
from convert.source.pictures import Pictures
from edge_runtime.cli_support import progress_bar
from edge_runtime.contract import InputSpec, Manifest
from edge_runtime.datasets.decode import decode_all
from edge_runtime.datasets.samples import Sample, Split
from edge_runtime.errors import DatasetError


@dataclass(frozen=True)
class Arrays:
    """What could be decoded; the pictures themselves lie in the work folder.

    Attributes:
        representative: The pictures that calibrate.
        check: The pictures that check, in the order of the array.
        split: Name of their split.
    """

    representative: tuple[Sample, ...]
    check: tuple[Sample, ...]
    split: str


def write_arrays(manifest: Manifest, pictures: Pictures, work_dir: Path, report: Callable[[str], None]) -> Arrays:
    """Write the pictures for calibration and checks, and the truth of the latter, into the work folder.

    Raises:
        DatasetError: None of them can be read.
    """
    total = len(pictures.representative) + len(pictures.check) + len(pictures.golden)
    with progress_bar("decoding", total) as advance:

        def decode(samples: Sequence[Sample]) -> tuple[NDArray[np.uint8], tuple[Sample, ...]]:
            return _decode(samples, manifest.input, report, advance)

        representative, kept_representative = decode(pictures.representative)
        check, kept_check = decode(pictures.check)
        golden, _ = decode(pictures.golden)
    np.save(work_dir / REPRESENTATIVE_FILE, representative)
    np.save(work_dir / CHECK_FILE, check)
    np.save(work_dir / GOLDEN_INPUT_FILE, golden)
    np.save(work_dir / TRUTH_FILE, np.array([manifest.labels.index(sample.label) for sample in kept_check], np.int64))
    split = Split.VALIDATION.value if all(s.split is Split.VALIDATION for s in kept_check) else "all"
    report(f"calibrating with {len(representative)} pictures, checking on {len(check)} ({split})")
    return Arrays(kept_representative, kept_check, split)


def _decode(
    samples: Sequence[Sample], spec: InputSpec, report: Callable[[str], None], advance: Callable[[int], None]
) -> tuple[NDArray[np.uint8], tuple[Sample, ...]]:
    decoded = decode_all([sample.path for sample in samples], spec, progress=advance)
    for index, reason in decoded.failures:
        report(f"left out {samples[index].path}: {reason}")
    if not decoded.kept:
        raise DatasetError(
            "none of the pictures for calibration and checks can be read; give others with --calibration"
        )
    return decoded.images_nhwc_rgb_u8, tuple(samples[index] for index in decoded.kept)
