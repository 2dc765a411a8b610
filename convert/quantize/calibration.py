"""Run a TFLite model over prepared images and measure the ranges of its activations."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from convert.options import CalibrationMethod
from convert.quantize.graph import FloatGraph
from edge_runtime.classifier import dequantize
from edge_runtime.contract import TensorSpec
from edge_runtime.platform.process import core_count

Ranges: TypeAlias = dict[str, tuple[float, float]]
"""Smallest and largest value of each activation by name."""

BINS = 2048
# Weight of each new image, as in TensorFlow's moving-average quantizers.
_MOVING_AVERAGE_STEP = 0.01
_PERCENTILE = 99.99
# ReLU6 in steps of this range's 16 bits must stay below 2**31, or the kernel refuses the model.
_LEAST_RANGE = 2e-4
_LEVELS = 256
_MSE_CANDIDATES = 64
_LEAST_RUNS, _MOST_RUNS, _SECONDS = 5, 60, 0.5

T = TypeVar("T")


def open_interpreter(data: bytes, *, keep_tensors: bool = False) -> Any:
    """Open an interpreter with one thread; ``keep_tensors`` keeps every tensor readable after a run."""
    from ai_edge_litert.interpreter import Interpreter

    with warnings.catch_warnings():
        # It warns about the memory that kept tensors take.
        warnings.simplefilter("ignore", UserWarning)
        interpreter = Interpreter(model_content=data, num_threads=1, experimental_preserve_all_tensors=keep_tensors)
    interpreter.allocate_tensors()
    return interpreter


def run_over(interpreter: Any, images_nhwc_rgb_u8: NDArray[np.uint8]) -> Iterator[Any]:
    """Run each image; yield the interpreter after each run."""
    index = interpreter.get_input_details()[0]["index"]
    for image in images_nhwc_rgb_u8:
        interpreter.set_tensor(index, image[np.newaxis])
        interpreter.invoke()
        yield interpreter


def probabilities(data: bytes, images_nhwc_rgb_u8: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Run a model with uint8 input on all cores: float32 [images, outputs]."""

    def part(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        interpreter = open_interpreter(data)
        detail = interpreter.get_output_details()[0]
        dtype, (scale, zero_point) = np.dtype(detail["dtype"]).name, detail["quantization"]
        spec = TensorSpec("output", dtype, tuple(detail["shape"]), float(scale), int(zero_point))
        return np.stack([dequantize(run.get_tensor(detail["index"])[0], spec) for run in run_over(interpreter, images)])

    return np.concatenate(_in_parallel(part, images_nhwc_rgb_u8))


def latency_ms(data: bytes) -> float:
    """Measure the median time of one invoke with one thread, in milliseconds, over up to 60 runs and about 0.5 s."""
    interpreter = open_interpreter(data)
    interpreter.invoke()
    times: list[float] = []
    while len(times) < _LEAST_RUNS or (len(times) < _MOST_RUNS and sum(times) < _SECONDS):
        start = time.perf_counter()
        interpreter.invoke()
        times.append(time.perf_counter() - start)
    return float(np.median(times)) * 1e3


@dataclass(frozen=True)
class ImageRanges:
    """Smallest and largest value of each activation, image by image.

    Attributes:
        names: Names of the activations.
        low, high: float32 [images, names].
    """

    names: tuple[str, ...]
    low: NDArray[np.float32]
    high: NDArray[np.float32]

    def first(self, count: int) -> ImageRanges:
        """Select the first ``count`` images."""
        return ImageRanges(self.names, self.low[:count], self.high[:count])


def measure(graph: FloatGraph, images_nhwc_rgb_u8: NDArray[np.uint8]) -> ImageRanges:
    """Run the float model over at least one image, uint8 [n, H, W, 3], and record each activation's range per image."""
    activations = graph.activations()

    def part(images: NDArray[np.uint8]) -> list[list[tuple[float, float]]]:
        interpreter = open_interpreter(graph.data, keep_tensors=True)
        rows = []
        for run in run_over(interpreter, images):
            values = (run.get_tensor(index) for index in activations.values())
            rows.append([(value.min(), value.max()) for value in values])
        return rows

    parts: list[list[list[tuple[float, float]]]] = _in_parallel(part, images_nhwc_rgb_u8)
    table = np.array([row for rows in parts for row in rows], np.float32)
    return ImageRanges(tuple(activations), table[..., 0], table[..., 1])


def ranges(
    graph: FloatGraph, images_nhwc_rgb_u8: NDArray[np.uint8], measured: ImageRanges, method: CalibrationMethod
) -> Ranges:
    """Derive the range of each activation from the ranges per image, which `measure` found.

    A percentile and the mean squared error take a second run over the same images.
    """
    low, high = measured.low.min(axis=0), measured.high.max(axis=0)
    if method is CalibrationMethod.MOVING_AVERAGE:
        low, high = moving_average(measured.low), moving_average(measured.high)
    elif method is not CalibrationMethod.MIN_MAX:
        # Zero is always in the range, since padding is zero.
        low, high = np.minimum(low, 0), np.maximum(high, 0)
        counts = _histograms(graph, images_nhwc_rgb_u8, low, high)
        cut = percentile_range if method is CalibrationMethod.PERCENTILE else least_error_range
        pairs = [cut(count, float(a), float(b)) for count, a, b in zip(counts, low, high, strict=True)]
        low, high = np.array([a for a, _ in pairs]), np.array([b for _, b in pairs])
    # For an activation that is nearly zero everywhere, such as a dead channel.
    high = np.maximum(high, low + _LEAST_RANGE)
    return {name: (float(a), float(b)) for name, a, b in zip(measured.names, low, high, strict=True)}


def moving_average(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute an exponential average over images, [images, names] to [names], starting with the first."""
    average = rows[0].copy()
    for row in rows[1:]:
        average += _MOVING_AVERAGE_STEP * (row - average)
    return average


def _histograms(
    graph: FloatGraph, images_nhwc_rgb_u8: NDArray[np.uint8], low: NDArray[np.float32], high: NDArray[np.float32]
) -> NDArray[np.int64]:
    """Count the values of each activation in `BINS` equal parts of its range: int64 [activations, bins]."""
    indices = list(graph.activations().values())
    steps = np.maximum(high - low, 1e-9) / BINS

    def part(images: NDArray[np.uint8]) -> NDArray[np.int64]:
        counts = np.zeros((len(indices), BINS), np.int64)
        for run in run_over(open_interpreter(graph.data, keep_tensors=True), images):
            for row, index in enumerate(indices):
                bins = ((run.get_tensor(index).ravel() - low[row]) / steps[row]).astype(np.int32)
                counts[row] += np.bincount(np.clip(bins, 0, BINS - 1), minlength=BINS)
        return counts

    parts: list[NDArray[np.int64]] = _in_parallel(part, images_nhwc_rgb_u8)
    return np.sum(parts, axis=0)


def percentile_range(counts: NDArray[np.int64], low: float, high: float) -> tuple[float, float]:
    """Cut the rarest values off both ends, 0.01 % together, but keep zero in the range.

    ``counts`` is int [BINS], the number of values in each equal part of the range from ``low`` <= 0 to ``high`` >= 0.
    """
    share = np.cumsum(counts) / counts.sum()
    outside = (1 - _PERCENTILE / 100) / 2
    step = (high - low) / BINS
    first, last = int(np.searchsorted(share, outside)), int(np.searchsorted(share, 1 - outside))
    return min(0.0, low + first * step), max(0.0, low + (last + 1) * step)


def least_error_range(counts: NDArray[np.int64], low: float, high: float) -> tuple[float, float]:
    """Find the range, shrunk evenly from both ends, whose 256 levels give the least squared error.

    The arguments are those of `percentile_range`.
    """
    centers = low + (np.arange(BINS) + 0.5) * (high - low) / BINS

    def error(shrink: float) -> float:
        a, b = low * shrink, high * shrink
        step = max(b - a, 1e-12) / (_LEVELS - 1)
        rounded = np.clip(np.rint((centers - a) / step), 0, _LEVELS - 1) * step + a
        return float(np.sum(counts * (rounded - centers) ** 2))

    best = min(np.linspace(1.0, 0.3, _MSE_CANDIDATES), key=error)
    return float(low * best), float(high * best)


def _in_parallel(work: Callable[[NDArray[np.uint8]], T], images: NDArray[np.uint8]) -> list[T]:
    """Split the images among the cores; results keep the images' order."""
    parts = np.array_split(images, max(1, min(core_count(), len(images))))
    with ThreadPoolExecutor(len(parts)) as pool:
        return list(pool.map(work, parts))
