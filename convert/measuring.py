"""Run the finished artifacts in a process without TensorFlow and compare each with Keras."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from convert import children, metadata, tflite_model
from convert.gate import Reference, compare
from convert.record import LeftOut, VariantRecord
from convert.tflite_model import read_model
from edge_runtime.classifier import widen
from edge_runtime.contract import Artifact, Manifest, Variant
from edge_runtime.errors import EngineError
from edge_runtime.model.bundle import file_sha256


def measure(
    files: Mapping[Variant, Path], manifest: Manifest, split: str, work_dir: Path, max_drop_points: float
) -> tuple[dict[Variant, VariantRecord], list[LeftOut]]:
    """Run each file over the check and golden images, and compare with Keras' outputs in the work folder.

    Returns:
        Measurements by variant, without steps and notes, and the variants that could not be run.
    """
    outcomes = _run(files, work_dir)
    reference = Reference(
        split=split,
        truth=np.load(work_dir / children.TRUTH_FILE),
        check=widen(np.load(work_dir / f"keras-{children.CHECK_FILE}"), manifest.output),
        golden=widen(np.load(work_dir / f"keras-{children.GOLDEN_INPUT_FILE}"), manifest.output),
    )
    measured: dict[Variant, VariantRecord] = {}
    left_out: list[LeftOut] = []
    for variant, file in files.items():
        outcome = outcomes[variant]
        if isinstance(outcome, children.CheckFailure):
            # The work folder is gone when this is read.
            left_out.append(LeftOut(variant.value, outcome.message.replace(f"{work_dir}/", "")))
        else:
            comparison = compare(
                reference,
                np.load(work_dir / f"{file.name}-{children.CHECK_FILE}"),
                np.load(work_dir / f"{file.name}-{children.GOLDEN_INPUT_FILE}"),
                manifest.output,
                manifest.labels,
                variant=variant,
                engine=outcome.engine,
                max_drop_points=max_drop_points,
            )
            artifact = Artifact(
                variant=variant,
                file=file.name,
                sha256=file_sha256(file),
                bytes=file.stat().st_size,
                input=outcome.input,
                output=outcome.output,
                minimum_runtime=minimum_runtime(file),
                check=comparison.check,
            )
            measured[variant] = VariantRecord(artifact, comparison, outcome.latency_ms, (), (), ())
    return measured, left_out


def minimum_runtime(file: Path) -> str:
    """Find the lowest release that opens the file, such as ``tflite 2.4.0``."""
    if file.suffix == ".onnx":
        return metadata.onnx_minimum_runtime(file)
    return tflite_model.minimum_runtime(read_model(file))


def _run(files: Mapping[Variant, Path], work_dir: Path) -> dict[Variant, children.Observation | children.CheckFailure]:
    """Run all files in one process; after a crash, the files behind the guilty one get another process."""
    outcomes: dict[Variant, children.Observation | children.CheckFailure] = {}
    while waiting := {variant: file for variant, file in files.items() if variant not in outcomes}:
        crashed = False
        try:
            job = children.CheckJob(tuple(map(str, waiting.values())), str(work_dir))
            children.run_child(children.CHECK_MODULE, job, work_dir)
        except EngineError:
            crashed = True
        for variant, file in waiting.items():
            outcome = children.read_outcome(work_dir, file.name)
            if outcome is not None:
                outcomes[variant] = outcome
        if not crashed:
            continue
        guilty = next((variant for variant in waiting if variant not in outcomes), None)
        if guilty is None:
            # Every file was run; only the timing at the end failed.
            break
        outcomes[guilty] = children.CheckFailure("the checking process crashed while running it")
    return outcomes
