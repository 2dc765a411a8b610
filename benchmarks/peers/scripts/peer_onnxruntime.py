"""A plain ONNX Runtime loop: Pillow scales, one session, one call an image."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image


def open_peer(request: dict[str, Any]) -> tuple[str, Callable[[str], tuple[Any, int]], dict[str, Any]]:
    """Open the model file; see `loop`."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = request["threads"]
    session = onnxruntime.InferenceSession(request["model"], options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    width, height = request["size_wh"]

    def classify(path: str) -> tuple[Any, int]:
        tensor = np.asarray(Image.open(path).convert("RGB").resize((width, height)), np.uint8)[np.newaxis]
        started_ns = time.perf_counter_ns()
        output = session.run(None, {name: tensor})[0][0]
        return output, time.perf_counter_ns() - started_ns

    return f"onnxruntime {onnxruntime.__version__}", classify, {}
