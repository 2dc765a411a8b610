"""Run the finished artifacts in a process without TensorFlow and compare each with Keras."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from convert import metadata
from convert.children import run_child
from convert.gate import Comparison, Reference, compare
from convert.lint import operators
from convert.messages import (
    CHECK_FILE,
    CHECK_MODULE,
    GOLDEN_INPUT_FILE,
    TRUTH_FILE,
    CheckFailure,
    CheckJob,
    Observation,
    read_outcome,
)
from convert.record import LeftOut
from convert.tflite_model import read_model
from edge_runtime.classifier import widen
from edge_runtime.contract import Artifact, Manifest, Variant
from edge_runtime.errors import EngineError
from edge_runtime.model.bundle import file_sha256


@dataclass(frozen=True)
class Measured:
    """Measurements of an artifact that could be run.

    Attributes:
        artifact: Entry of the manifest.
        comparison: Comparison with the Keras model.
        latency_ms: Median of single invocations on this machine, one thread, in milliseconds.
    """

    artifact: Artifact
    comparison: Comparison
    latency_ms: float


def measure(
    files: Mapping[Variant, Path], manifest: Manifest, split: str, work_dir: Path, max_drop_points: float
) -> tuple[dict[Variant, Measured], list[LeftOut]]:
    """Run each file over the check and golden images.

    Args:
        files: Paths of the artifacts by variant.
        manifest: Manifest of the model.
        split: Name of the check images' split.
        work_dir: Folder with the images and Keras' outputs.
        max_drop_points: Allowed loss of accuracy, percentage points.

    Returns:
        Measurements by variant, and the variants that could not be run.
    """
    outcomes = _run(files, work_dir)
    reference = Reference(
        split=split,
        truth=np.load(work_dir / TRUTH_FILE),
        check=widen(np.load(work_dir / f"keras-{CHECK_FILE}"), manifest.output),
        golden=widen(np.load(work_dir / f"keras-{GOLDEN_INPUT_FILE}"), manifest.output),
    )
    measured: dict[Variant, Measured] = {}
    left_out: list[LeftOut] = []
    for variant, file in files.items():
        outcome = outcomes[variant]
        if isinstance(outcome, CheckFailure):
            # The work folder is gone when this is read.
            left_out.append(LeftOut(variant.value, outcome.message.replace(f"{work_dir}/", "")))
        else:
            comparison = compare(
                reference,
                np.load(work_dir / f"{file.name}-{CHECK_FILE}"),
                np.load(work_dir / f"{file.name}-{GOLDEN_INPUT_FILE}"),
                manifest.output,
                manifest.labels,
                variant=variant,
                engine=outcome.engine,
                max_drop_points=max_drop_points,
            )
            artifact = _artifact(variant, file, outcome, comparison)
            measured[variant] = Measured(artifact, comparison, outcome.latency_ms)
    return measured, left_out


def minimum_runtime(file: Path) -> str:
    """Find the lowest release that opens the file, such as ``tflite 2.4.0``."""
    if file.suffix == ".onnx":
        return metadata.onnx_minimum_runtime(file)
    return operators.minimum_runtime(read_model(file))


def _artifact(variant: Variant, file: Path, observation: Observation, comparison: Comparison) -> Artifact:
    return Artifact(
        variant=variant,
        file=file.name,
        sha256=file_sha256(file),
        bytes=file.stat().st_size,
        input=observation.input,
        output=observation.output,
        minimum_runtime=minimum_runtime(file),
        check=comparison.check,
    )


def _run(files: Mapping[Variant, Path], work_dir: Path) -> dict[Variant, Observation | CheckFailure]:
    """Run all files in one process; after a crash, the files behind the guilty one get another process."""
    outcomes: dict[Variant, Observation | CheckFailure] = {}
    while waiting := {variant: file for variant, file in files.items() if variant not in outcomes}:
        crash: EngineError | None = None
        try:
            run_child(CHECK_MODULE, CheckJob(tuple(str(file) for file in waiting.values()), str(work_dir)), work_dir)
        except EngineError as error:
            crash = error
        for variant, file in waiting.items():
            outcome = read_outcome(work_dir, file.name)
            if outcome is not None:
                outcomes[variant] = outcome
        if crash is None:
            continue
        guilty = next((variant for variant in waiting if variant not in outcomes), None)
        if guilty is None:
            # Every file was run; only the timing at the end failed.
            break
        outcomes[guilty] = CheckFailure("the checking process crashed while running it")
    return outcomes
