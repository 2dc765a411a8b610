"""Keras as its guides use it: ``load_img`` scales, ``model.predict`` of a batch of one."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np


def multiply_adds(model: Any) -> int:
    """Multiplications of one inference in convolutions and dense layers, counted from kernels and output shapes."""
    count = 0
    for layer in model._flatten_layers(include_self=False, recursive=True):
        kernel = getattr(layer, "kernel", None)
        if kernel is not None and not hasattr(layer, "layers"):
            count += math.prod(kernel.shape) * math.prod(layer.output.shape[1:-1])
    return count


def open_peer(request: dict[str, Any]) -> tuple[str, Callable[[str], tuple[Any, int]], dict[str, Any]]:
    """Open the model file; see `loop`."""
    model = keras.saving.load_model(request["model"], compile=False, safe_mode=True)
    width, height = request["size_wh"]

    def classify(path: str) -> tuple[Any, int]:
        batch = np.asarray(keras.utils.load_img(path, target_size=(height, width)))[np.newaxis]
        started_ns = time.perf_counter_ns()
        output = model.predict(batch, verbose=0)[0]
        return output, time.perf_counter_ns() - started_ns

    facts = {"parameters": model.count_params() / 1e6, "gflops": 2e-9 * multiply_adds(model)}
    return f"keras {keras.__version__} on {keras.backend.backend()}", classify, facts
