"""One picture through the classifier's stages, each timed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from edge_runtime.errors import DataError, EngineError
from edge_runtime.preprocess import ImageU8, load_image, load_prepared
from edge_runtime.raw_pictures import BIN_SUFFIX
from edge_runtime.results import Classified, Failed, LatencyMs, Result

if TYPE_CHECKING:
    from edge_runtime.classifier import Classifier
    from edge_runtime.results import Prediction


def classify_file(classifier: Classifier, path: Path, top_k: int) -> Result:
    """Classify one picture file; what is wrong with the file becomes a `Failed`, never an exception."""
    try:
        started_s = time.perf_counter()
        if path.suffix.lower() == BIN_SUFFIX:
            # The model's input as it is: no geometry is left to be done, not even a crop of part of the picture.
            prepared, preprocess_ms = load_prepared(path, classifier.input_spec), 0.0
            decode_ms = (time.perf_counter() - started_s) * 1e3
            top, invoke_ms = _classify_prepared(classifier, prepared, top_k)
        else:
            image_hwc_rgb_u8 = load_image(path)
            decode_ms = (time.perf_counter() - started_s) * 1e3
            top, preprocess_ms, invoke_ms = classify_image(classifier, image_hwc_rgb_u8, top_k)
    except (DataError, EngineError) as error:
        return Failed.of(str(path), error)
    latency_ms = LatencyMs(decode_ms, preprocess_ms, invoke_ms)
    return Classified(str(path), top, latency_ms, rejected=classifier.is_rejected(top))


def classify_image(
    classifier: Classifier, image_hwc_rgb_u8: ImageU8, top_k: int
) -> tuple[tuple[Prediction, ...], float, float]:
    """Classify uint8 [height, width, 3] RGB: predictions, milliseconds of crop and resize, of run and rank."""
    started_s = time.perf_counter()
    prepared = classifier.prepare(image_hwc_rgb_u8)
    preprocess_ms = (time.perf_counter() - started_s) * 1e3
    top, invoke_ms = _classify_prepared(classifier, prepared, top_k)
    return top, preprocess_ms, invoke_ms


def _classify_prepared(
    classifier: Classifier, prepared_hwc_rgb_u8: ImageU8, top_k: int
) -> tuple[tuple[Prediction, ...], float]:
    """Run and rank uint8 [H, W, 3] RGB of the model's size: predictions, milliseconds."""
    started_s = time.perf_counter()
    top = tuple(classifier.rank(classifier.probabilities(prepared_hwc_rgb_u8), top_k))
    return top, (time.perf_counter() - started_s) * 1e3
