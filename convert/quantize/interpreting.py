"""Run a ``.tflite`` from memory over prepared pictures, also to look at what lies between input and output."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.contract import TensorSpec
from edge_runtime.cores import core_count
from edge_runtime.tensors import dequantize

_LEAST_RUNS, _MOST_RUNS, _SECONDS = 5, 60, 0.5


def open_interpreter(data: bytes, *, keep_tensors: bool = False) -> Any:
    """An interpreter with one thread; with ``keep_tensors`` every tensor can be read after a run."""
    from ai_edge_litert.interpreter import Interpreter

    with warnings.catch_warnings():
        # It warns of the memory that kept tensors take, which is what is wanted.
        warnings.simplefilter("ignore", UserWarning)
        interpreter = Interpreter(model_content=data, num_threads=1, experimental_preserve_all_tensors=keep_tensors)
    interpreter.allocate_tensors()
    return interpreter


def run_over(interpreter: Any, images_nhwc_rgb_u8: NDArray[np.uint8]) -> Iterator[Any]:
    """Run each picture; give the interpreter after each run."""
    index = interpreter.get_input_details()[0]["index"]
    for image in images_nhwc_rgb_u8:
        interpreter.set_tensor(index, image[np.newaxis])
        interpreter.invoke()
        yield interpreter


def probabilities(data: bytes, images_nhwc_rgb_u8: NDArray[np.uint8]) -> NDArray[np.float32]:
    """float32 [images, outputs] of a model that takes uint8 pictures; one interpreter a core."""
    parts = np.array_split(images_nhwc_rgb_u8, max(1, min(core_count(), len(images_nhwc_rgb_u8))))
    with ThreadPoolExecutor(len(parts)) as pool:
        return np.concatenate(list(pool.map(lambda part: _probabilities(data, part), parts)))


def _probabilities(data: bytes, images_nhwc_rgb_u8: NDArray[np.uint8]) -> NDArray[np.float32]:
    interpreter = open_interpreter(data)
    detail = interpreter.get_output_details()[0]
    scale, zero_point = detail["quantization"]
    spec = TensorSpec("output", np.dtype(detail["dtype"]).name, tuple(detail["shape"]), float(scale), int(zero_point))
    rows = [dequantize(run.get_tensor(detail["index"])[0], spec) for run in run_over(interpreter, images_nhwc_rgb_u8)]
    return np.stack(rows)


def latency_ms(data: bytes) -> float:
    """Median time of one invoke with one thread, in milliseconds: 5 to 60 runs after a warm-up, half a second."""
    interpreter = open_interpreter(data)
    interpreter.invoke()
    times: list[float] = []
    while len(times) < _LEAST_RUNS or (len(times) < _MOST_RUNS and sum(times) < _SECONDS):
        start = time.perf_counter()
        interpreter.invoke()
        times.append(time.perf_counter() - start)
    return float(np.median(times)) * 1e3
