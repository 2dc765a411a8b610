"""Run a tiny model, or a user's model with the golden inputs of its bundle, and time it; for use in a child process.

Both tiny models take uint8 [1, 8, 8, 3] and return the mean of each channel, [1, 3]. The TFLite one is that of
`edge_runtime.testing.write_tiny_model`, kept as bytes because a device lacks the library to build it.
"""

from __future__ import annotations

import base64
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.classifier import Classifier, top1
from edge_runtime.contract import GOLDEN_FILE, OutputSpec, Variant
from edge_runtime.engines import EngineName, open_engine
from edge_runtime.errors import EngineError, IntegrityError
from edge_runtime.model.bundle import ModelFile, find_model, open_model
from edge_runtime.platform.atomic import temporary_folder
from edge_runtime.platform.zips import ZIP_ERRORS, open_small_zip
from edge_runtime.preprocess import ImageU8

MOST_GOLDEN_BYTES = 256 << 20
_WARM_UPS = 3
_LEAST_RUNS, _MOST_RUNS = 10, 400
_ENOUGH_S = 0.7


_TINY_SIDE_PX = 8

_TFLITE = (
    "c-n<gyKcfj5F9^1mT-"
    "a#7f4XJprDMDGAUA}qNJdpIpDySj6ozt%6vdRB%hT(ady{hpQ$)&&UgEmoxPm_SiLWwA?pznq(~4WLP$5z4S3}k!k-"
    "5O^!EvKLM%B$i5=1@Bt!&HV}9zo=KPa2RdzmP*6i|Zmz%1xB{VJ(9#=C~8`oPCHX4_zzEu1%Mm>GBriq?I`J4v7@yornd1~WcehH"
    ";&zmi_&c~Up`y(e3w+-"
    ")9uoWS?X1MQdVd26;sS$r1uqgN;B`WxT$r(Axbwau5LbsC#qISbt^W;zR|eG}eh0xj=7odep7lQ~+g>1j@+I^8^6UFKc5cU=4f6H"
    "+E{"
)
_ONNX = (
    "c-l3My$*sf6oqLi;d&!VZj3T%!pIxwM09p>bgTA;Gzc176MYsJ9#x_^e8b841E82q#kKXDx4<Pvw$T-"
    "ny0gCIYNwqqMkxI?6P=K_#;-w9!@6}j9@sq2yzfPkpwdrvr6^@5;$n(WGvADDTo&|IQr@<&<LZAf#~DaUQG)1!f$+4z-"
    "!@Hf41!<?gj<C{ntT9uz$3>"
)


def write_tiny(folder: Path, suffix: str) -> Path:
    """Write the tiny model with a suffix, ``.tflite`` or ``.onnx``, into a folder."""
    path = folder / f"tiny{suffix}"
    path.write_bytes(zlib.decompress(base64.b85decode(_ONNX if suffix == ".onnx" else _TFLITE)))
    return path


def run_tiny(engine_name: str) -> dict[str, Any]:
    """Open and run a tiny model.

    Args:
        engine_name: Runtime, ``litert``, ``tflite-runtime`` or ``onnxruntime``.

    Returns:
        ``version`` of the runtime.

    Raises:
        EngineError: The runtime fails or computes wrong values.
    """
    color_rgb = (200, 100, 50)
    image_nhwc_rgb_u8 = np.full((1, _TINY_SIDE_PX, _TINY_SIDE_PX, 3), color_rgb, np.uint8)
    with temporary_folder("doctor") as folder:
        suffix = ".onnx" if engine_name == EngineName.ONNXRUNTIME.value else ".tflite"
        engine = open_engine(write_tiny(folder, suffix), EngineName(engine_name))
        means = engine.invoke(image_nhwc_rgb_u8)
        engine.close()
    if np.abs(means.astype(np.float64) - color_rgb).max() > 1:
        raise EngineError(f"computes wrong values: the mean of {list(color_rgb)} is not {means.tolist()[0]}")
    return {"version": engine.version}


def replay(path: Path, variant: str | None) -> dict[str, Any]:
    """Run one model file.

    Args:
        path: Path of a bundle or of one model file.
        variant: Name of the bundle's variant, or None for the default.

    Returns:
        ``engine`` (name and version), ``latency_ms`` (median of one inference in one thread) and, if the bundle has
        golden inputs, ``images`` (their count), ``from_keras`` (largest difference of a probability, 0..1),
        ``from_recorded`` (the same against the output recorded at conversion, None if not recorded) and ``changed``
        (images with another answer than at conversion).

    Raises:
        EdgeKitError: The model or the golden inputs cannot be used.
    """
    model = find_model(path, Variant(variant) if variant else None)
    if model.manifest is None:
        return _run_foreign(model)
    with Classifier(model, threads=1) as classifier:
        engine = f"{classifier.engine.name} {classifier.engine.version}"
        shape_hwc = classifier.input_spec.shape_hwc
        golden = read_golden(path / GOLDEN_FILE) if path.is_dir() else None
        if golden is None:
            images = np.random.default_rng(0).integers(0, 256, (4, *shape_hwc), np.uint8)
            return {"engine": engine, "latency_ms": _median_of(classifier, images)}
        images = _images(golden, shape_hwc)
        probabilities = np.stack([classifier.probabilities(image) for image in images])
        compared = _compare(probabilities, golden, variant, classifier.output_spec)
        return {"engine": engine, "latency_ms": _median_of(classifier, images), "images": len(images), **compared}


def _run_foreign(model: ModelFile) -> dict[str, Any]:
    """Run one inference on zeros, since the meaning of the output is unknown."""
    engine = open_model(model).engine
    zeros = np.zeros(engine.input.shape, engine.input.dtype)
    return {"engine": f"{engine.name} {engine.version}", "latency_ms": _median_ms(lambda _run: engine.invoke(zeros))}


def read_golden(path: Path) -> dict[str, NDArray[Any]] | None:
    """Read the golden arrays of a bundle by name: inputs, Keras' outputs, outputs of each variant; None without a file.

    Raises:
        IntegrityError: Not such a file, too large or damaged.
    """
    if not path.exists():
        return None
    if not path.is_file():
        raise IntegrityError(f"{path}: expected a file of golden inputs, got something else; copy the bundle again")
    try:
        with open_small_zip(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > MOST_GOLDEN_BYTES:
            raise IntegrityError(f"{path}: expected at most {MOST_GOLDEN_BYTES >> 20} MiB, got {size >> 20} MiB")
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except ZIP_ERRORS as error:
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
    # NaN counts as the largest difference, and JSON has no NaN.
    return difference if np.isfinite(difference) else 1.0


def _median_of(classifier: Classifier, images: ImageU8) -> float:
    return _median_ms(lambda run: classifier.probabilities(images[run % len(images)]))


def _median_ms(infer: Callable[[int], object]) -> float:
    """Measure the median milliseconds of a call, which gets its number."""
    for run in range(_WARM_UPS):
        infer(run)
    times_s: list[float] = []
    until_s = time.perf_counter() + _ENOUGH_S
    while len(times_s) < _LEAST_RUNS or (len(times_s) < _MOST_RUNS and time.perf_counter() < until_s):
        started_s = time.perf_counter()
        infer(len(times_s))
        times_s.append(time.perf_counter() - started_s)
    return float(np.median(times_s)) * 1e3
