"""Calibration, activations and jobs of small models for tests of quantization."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convert.children import BASE_TFLITE, CHECK_FILE, REPRESENTATIVE_FILE, TRUTH_FILE, QuantizeJob
from convert.options import CalibrationMethod, QuantizeSettings
from convert.quantize.calibration import Ranges, measure, open_interpreter, probabilities, ranges, run_over
from convert.quantize.graph import FloatGraph
from edge_runtime.contract import Head, OutputSpec, Variant

ImagesU8 = NDArray[np.uint8]


def toned_images(count: int, side: int, rng: np.random.Generator, darkest: int = 0) -> ImagesU8:
    """Make images of one colour each with a little noise, since neighbouring pixels of real images are alike."""
    tones, noise = rng.integers(darkest, 200, (count, 1, 1, 3)), rng.integers(0, 56, (count, side, side, 3))
    return (tones + noise).astype(np.uint8)


def calibrated(graph: FloatGraph, images: ImagesU8, method: CalibrationMethod = CalibrationMethod.MIN_MAX) -> Ranges:
    """Measure the ranges of a model's activations over images."""
    return ranges(graph, images, measure(graph, images), method)


def tensor_values(data: bytes, name: str, images: ImagesU8) -> NDArray[np.float64]:
    """Real values of an activation over the images: float64 [images, ...]."""
    interpreter = open_interpreter(data, keep_tensors=True)
    detail = next(detail for detail in interpreter.get_tensor_details() if detail["name"] == name)
    scale, zero_point = detail["quantization"]
    values = [run.get_tensor(detail["index"]).astype(np.float64) for run in run_over(interpreter, images)]
    return (np.concatenate(values) - zero_point) * (scale or 1.0)


def write_job(
    folder: Path,
    data: bytes,
    representative: ImagesU8,
    check: ImagesU8,
    variants: tuple[Variant, ...],
    *,
    truth: NDArray[Any] | None = None,
    max_drop_points: float = 50.0,
    **settings: Any,
) -> QuantizeJob:
    """Write the work folder of a quantization of a model that answers with softmax, and make its job."""
    folder.mkdir(exist_ok=True)
    exact = probabilities(data, check)
    (folder / BASE_TFLITE).write_bytes(data)
    np.save(folder / REPRESENTATIVE_FILE, representative)
    np.save(folder / CHECK_FILE, check)
    np.save(folder / TRUTH_FILE, exact.argmax(axis=1) if truth is None else truth)
    np.save(folder / f"keras-{CHECK_FILE}", exact)
    output, choices = OutputSpec(Head.SOFTMAX, 0.0), QuantizeSettings(**settings)
    return QuantizeJob(str(folder), "model", variants, output, max_drop_points, 7, choices)
