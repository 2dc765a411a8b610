"""One side of ``benchmarks/studies/folder_throughput.py``, in a process of its own; prints one JSON line.

    python -m benchmarks.studies.folder_child limit|busy|pipeline|plain|same MODEL LIST [LABELS]

``limit`` gives the processor seconds that decoding, resizing and inference take, and nothing else, ``busy`` the same
while every core does it; ``pipeline`` times `edge_runtime.pipeline.folder` from the first result to the last; ``plain``
times what one writes in ten lines: OpenCV, one interpreter, one thread, and the label of each picture. It stretches
pictures without antialiasing, which costs less and is not what a model saw in training; ``same`` is that loop with the
contract's pixels.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from edge_runtime.classifier import Classifier
from edge_runtime.cli_support import read_labels_file
from edge_runtime.contract import Crop
from edge_runtime.cores import core_count
from edge_runtime.modelfile import Foreign, find_model
from edge_runtime.preprocess import load_image


def measure_limit(paths: list[Path], open_classifier: Callable[[], Classifier], _model: str) -> dict[str, float]:
    """Processor seconds a picture of decode + resize + invoke, in one thread."""
    cv2.setNumThreads(1)
    classifier = open_classifier()
    classifier.probabilities(classifier.prepare(load_image(paths[0])))
    spent_s = 0.0
    for path in paths:
        started_s = time.thread_time()
        classifier.engine.invoke(classifier.prepare(load_image(path))[np.newaxis])
        spent_s += time.thread_time() - started_s
    return {"cpu_s": spent_s / len(paths), "rate": core_count() * len(paths) / spent_s}


def measure_busy(paths: list[Path], open_classifier: Callable[[], Classifier], model: str) -> dict[str, float]:
    """The same with a thread a core at once: cores that share caches or a clock each take longer for a picture."""
    cores = core_count()
    with ThreadPoolExecutor(cores) as pool:
        parts = list(pool.map(lambda first: measure_limit(paths[first::cores], open_classifier, model), range(cores)))
    cpu_s = sum(part["cpu_s"] for part in parts) / cores
    return {"cpu_s": cpu_s, "rate": cores / cpu_s}


def measure_pipeline(paths: list[Path], open_classifier: Callable[[], Classifier], _model: str) -> dict[str, float]:
    """Pictures a second of ``edge-run classify`` without its start and its rows."""
    from edge_runtime.pipeline.folder import classify_files

    results = classify_files(paths, open_classifier(), open_classifier, workers=core_count(), top_k=3)
    # Every worker has opened its interpreter by then.
    warm = 4 * core_count()
    for _ in range(warm):
        next(results)
    started_s = time.perf_counter()
    count = sum(1 for _ in results)
    return {"rate": count / (time.perf_counter() - started_s)}


def measure_plain(paths: list[Path], _open: Callable[[], Classifier], model: str) -> dict[str, float]:
    """Pictures a second of a loop that one writes in ten lines."""
    from ai_edge_litert.interpreter import Interpreter

    cv2.setNumThreads(1)
    interpreter = Interpreter(model_path=model, num_threads=1)
    interpreter.allocate_tensors()
    given, asked = interpreter.get_input_details()[0], interpreter.get_output_details()[0]["index"]
    size_wh = tuple(given["shape"][2:0:-1])

    def answer(path: Path) -> int:
        image_hwc_bgr_u8 = cv2.imread(str(path))
        if image_hwc_bgr_u8 is None:
            return -1
        image_hwc_rgb_u8 = cv2.resize(cv2.cvtColor(image_hwc_bgr_u8, cv2.COLOR_BGR2RGB), size_wh)
        interpreter.set_tensor(given["index"], image_hwc_rgb_u8[None])
        interpreter.invoke()
        return int(np.argmax(interpreter.get_tensor(asked)))

    answer(paths[0])
    started_s = time.perf_counter()
    for path in paths:
        answer(path)
    return {"rate": len(paths) / (time.perf_counter() - started_s)}


def measure_same(paths: list[Path], open_classifier: Callable[[], Classifier], _model: str) -> dict[str, float]:
    """Pictures a second of a loop of one thread that makes the same pixels as ``edge-run``."""
    cv2.setNumThreads(1)
    classifier = open_classifier()

    def answer(path: Path) -> int:
        return int(np.argmax(classifier.engine.invoke(classifier.prepare(load_image(path))[np.newaxis])))

    answer(paths[0])
    started_s = time.perf_counter()
    for path in paths:
        answer(path)
    return {"rate": len(paths) / (time.perf_counter() - started_s)}


_SIDES = {
    "limit": measure_limit,
    "busy": measure_busy,
    "pipeline": measure_pipeline,
    "plain": measure_plain,
    "same": measure_same,
}


def main(side: str, model: str, list_file: str, labels: str | None = None) -> None:
    """Measure one side and print its figures."""
    paths = [Path(line) for line in Path(list_file).read_text(encoding="utf-8").splitlines()]
    foreign = Foreign(labels=read_labels_file(Path(labels)), crop=Crop.CENTER) if labels else None
    found = find_model(Path(model), None, foreign)
    print(json.dumps(_SIDES[side](paths, lambda: Classifier(found), str(found.path))))


if __name__ == "__main__":
    main(*sys.argv[1:])
