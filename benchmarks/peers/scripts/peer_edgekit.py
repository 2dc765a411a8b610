"""Our own Python interface: the stages of ``Classifier.classify``, one by one."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge_runtime.classifier import Classifier
from edge_runtime.preprocess import load_prepared


def open_peer(request: dict[str, Any]) -> tuple[str, Callable[[str], tuple[str, int]], dict[str, Any]]:
    """Open the model file; see `loop`."""
    classifier = Classifier(request["model"], threads=request["threads"])

    def classify(path: str) -> tuple[str, int]:
        prepared_hwc_rgb_u8 = load_prepared(Path(path), classifier.input_spec)
        started_ns = time.perf_counter_ns()
        probabilities = classifier.probabilities(prepared_hwc_rgb_u8)
        inference_ns = time.perf_counter_ns() - started_ns
        return classifier.rank(probabilities)[0].label, inference_ns

    return f"{classifier.engine.name} {classifier.engine.version}", classify, {}
