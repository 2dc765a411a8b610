"""A plain LiteRT loop, as Google's Raspberry Pi example works: Pillow scales, one interpreter, one call an image."""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image


def open_peer(request: dict[str, Any]) -> tuple[str, Callable[[str], tuple[Any, int]], dict[str, Any]]:
    """Open the model file; see `loop`."""
    interpreter = Interpreter(model_path=request["model"], num_threads=request["threads"])
    interpreter.allocate_tensors()
    taken, given = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    _, height, width, _ = (int(side) for side in taken["shape"])
    scale, zero_point = given["quantization"]

    def classify(path: str) -> tuple[Any, int]:
        image = Image.open(path).convert("RGB").resize((width, height))
        tensor = np.asarray(image, taken["dtype"])[np.newaxis]
        started_ns = time.perf_counter_ns()
        interpreter.set_tensor(taken["index"], tensor)
        interpreter.invoke()
        output = interpreter.get_tensor(given["index"])[0]
        inference_ns = time.perf_counter_ns() - started_ns
        return (scale * (output.astype(np.float32) - zero_point) if scale else output), inference_ns

    return f"ai-edge-litert {importlib.metadata.version('ai-edge-litert')}", classify, {}
