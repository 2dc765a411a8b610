"""Child program for one model file: ``python -m benchmarks.mlperf_tiny.child REQUEST.json``.

Accuracy mode classifies every image once. Single-stream mode is LoadGen's: the next query is issued when the last one
has been answered, until there were enough queries and enough time has passed. A query is one image as uint8 pixels in
memory, its answer the probabilities of all classes: conversion to and from the model's own format is included. The
program imports only the runtime, because its peak memory is reported.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.classifier import Classifier
from edge_runtime.contract import Crop
from edge_runtime.errors import EdgeKitError
from edge_runtime.model.bundle import ModelOptions

_WARM_UP = 20
_MAX_QUERIES = 20_000_000


def single_stream(
    classifier: Classifier, images_nhwc_rgb_u8: NDArray[np.uint8], queries: int, duration_s: float
) -> NDArray[np.int64]:
    """Time each query in nanoseconds, in order.

    Args:
        classifier: The opened model.
        images_nhwc_rgb_u8: Images, taken in turn.
        queries: Least number of queries.
        duration_s: Least duration of all queries in seconds.
    """
    count = len(images_nhwc_rgb_u8)
    for index in range(_WARM_UP):
        classifier.probabilities(images_nhwc_rgb_u8[index % count])
    latencies_ns: list[int] = []
    end_ns = time.perf_counter_ns() + int(duration_s * 1e9)
    while len(latencies_ns) < queries or time.perf_counter_ns() < end_ns:
        image = images_nhwc_rgb_u8[len(latencies_ns) % count]
        started_ns = time.perf_counter_ns()
        classifier.probabilities(image)
        latencies_ns.append(time.perf_counter_ns() - started_ns)
        if len(latencies_ns) == _MAX_QUERIES:
            break
    return np.array(latencies_ns, np.int64)


def serve(request: dict[str, Any]) -> dict[str, Any]:
    """Classify all images and time single-stream queries with one model; latencies go to a file of their own."""
    images = np.load(request["images"], allow_pickle=False)
    options = ModelOptions(tuple(request["labels"]), Crop.STRETCH, tuple(request["input_range"]))
    try:
        with Classifier(request["model"], threads=request["threads"], options=options) as classifier:
            if classifier.labels != options.labels:
                return {"error": f"{request['model']}: its labels are not those of CIFAR-10"}
            answers = [int(np.argmax(classifier.probabilities(image))) for image in images]
            latencies = single_stream(classifier, images, request["queries"], request["duration_s"])
            np.save(request["latencies"], latencies)
            runtime = f"{classifier.engine.name} {classifier.engine.version}"
    except EdgeKitError as error:
        return {"error": str(error)}
    return {"answers": answers, "runtime": runtime}


if __name__ == "__main__":
    print(json.dumps(serve(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))))
