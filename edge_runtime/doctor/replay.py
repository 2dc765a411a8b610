"""Open a model, run the golden inputs of its bundle and time it; for use in a child process."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.classifier import Classifier
from edge_runtime.contract import GOLDEN_FILE, OutputSpec, Variant
from edge_runtime.decision import top1
from edge_runtime.errors import IntegrityError
from edge_runtime.model.bundle import ModelFile, find_model, open_model
from edge_runtime.preprocess import ImageU8

_MOST_GOLDEN_BYTES = 256 << 20
_WARM_UPS = 3
_LEAST_RUNS, _MOST_RUNS = 10, 400
_ENOUGH_S = 0.7


def replay(path: Path, variant: str | None) -> dict[str, Any]:
    """Run one model file.

    Args:
        path: A bundle or one model file.
        variant: Which artifact of a bundle.

    Returns:
        ``engine`` (name and version), ``latency_ms`` (median of one inference in one thread) and, where the bundle has
        golden inputs, ``images``, ``from_keras`` (largest difference of a probability, 0..1), ``from_recorded`` (the
        same from what this artifact gave when it was made, None where that is not recorded) and ``changed`` (images
        with another answer than then).

    Raises:
        EdgeKitError: The model or the golden inputs cannot be used.
    """
    model = find_model(path, Variant(variant) if variant else None)
    if model.manifest is None:
        return _run_foreign(model)
    with Classifier(model, threads=1) as classifier:
        engine = f"{classifier.engine.name} {classifier.engine.version}"
        shape_hwc = classifier.input_spec.shape_hwc
        golden = _load_golden(path / GOLDEN_FILE) if path.is_dir() else None
        if golden is None:
            images = np.random.default_rng(0).integers(0, 256, (4, *shape_hwc), np.uint8)
            return {"engine": engine, "latency_ms": _median_of(classifier, images)}
        images = _images(golden, shape_hwc)
        probabilities = np.stack([classifier.probabilities(image) for image in images])
        compared = _compare(probabilities, golden, variant, classifier.output_spec)
        return {"engine": engine, "latency_ms": _median_of(classifier, images), "images": len(images), **compared}


def _run_foreign(model: ModelFile) -> dict[str, Any]:
    """One inference on zeros; what the answer means, nobody has said."""
    engine = open_model(model).engine
    zeros = np.zeros(engine.input.shape, engine.input.dtype)
    return {"engine": f"{engine.name} {engine.version}", "latency_ms": _median_ms(lambda _run: engine.invoke(zeros))}


def _load_golden(path: Path) -> dict[str, NDArray[Any]] | None:
    if not path.exists():
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > _MOST_GOLDEN_BYTES:
            raise IntegrityError(f"{path}: expected at most {_MOST_GOLDEN_BYTES >> 20} MiB, got {size >> 20} MiB")
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except (OSError, ValueError, EOFError, NotImplementedError, zipfile.BadZipFile) as error:
        raise IntegrityError(f"{path}: cannot be read ({error}); copy the bundle again") from error


def _images(golden: dict[str, NDArray[Any]], shape_hwc: tuple[int, int, int]) -> ImageU8:
    images = golden.get("images_nhwc_rgb_u8", np.zeros(0))
    if images.dtype != np.uint8 or images.shape[1:] != shape_hwc or not len(images):
        raise IntegrityError(
            f"{GOLDEN_FILE}: expected uint8 images {list(shape_hwc)}, got {images.dtype} {list(images.shape)}; "
            "copy the bundle again"
        )
    return images


def _compare(
    probabilities: NDArray[np.float32], golden: dict[str, NDArray[Any]], variant: str | None, output: OutputSpec
) -> dict[str, Any]:
    keras, recorded = golden.get("keras"), golden.get(variant or "")
    for name, expected in (("keras", keras), (variant, recorded)):
        if expected is not None and (expected.shape != probabilities.shape or expected.dtype.kind != "f"):
            raise IntegrityError(f"{GOLDEN_FILE}: {name} does not fit the model; copy the bundle again")
    if keras is None:
        raise IntegrityError(f"{GOLDEN_FILE}: holds no answers of Keras; copy the bundle again")
    expected_top1 = top1(keras if recorded is None else recorded, output)
    return {
        "from_keras": _difference(probabilities, keras),
        "from_recorded": None if recorded is None else _difference(probabilities, recorded),
        "changed": int((top1(probabilities, output) != expected_top1).sum()),
    }


def _difference(found: NDArray[np.float32], expected: NDArray[Any]) -> float:
    difference = float(np.abs(found - expected).max())
    # Not a number is as far away as can be, and JSON does not know it.
    return difference if np.isfinite(difference) else 1.0


def _median_of(classifier: Classifier, images: ImageU8) -> float:
    return _median_ms(lambda run: classifier.probabilities(images[run % len(images)]))


def _median_ms(infer: Callable[[int], object]) -> float:
    """Median milliseconds of a call, which is given its number."""
    for run in range(_WARM_UPS):
        infer(run)
    times_s: list[float] = []
    until_s = time.perf_counter() + _ENOUGH_S
    while len(times_s) < _LEAST_RUNS or (len(times_s) < _MOST_RUNS and time.perf_counter() < until_s):
        started_s = time.perf_counter()
        infer(len(times_s))
        times_s.append(time.perf_counter() - started_s)
    return float(np.median(times_s)) * 1e3
