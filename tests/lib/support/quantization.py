"""Calibration, activations and jobs of small models for tests of quantization."""

import numpy as np

from convert.children import BASE_TFLITE, CHECK_FILE, REPRESENTATIVE_FILE, TRUTH_FILE, QuantizeJob
from convert.options import CalibrationMethod, QuantizeSettings
from convert.quantize.calibration import measure, open_interpreter, probabilities, ranges, run_over
from edge_runtime.contract import Head, OutputSpec


def toned_images(count, side, rng, darkest=0):
    """Make images of one colour each with a little noise, since neighbouring pixels of real images are alike."""
    tones, noise = rng.integers(darkest, 200, (count, 1, 1, 3)), rng.integers(0, 56, (count, side, side, 3))
    return (tones + noise).astype(np.uint8)


def calibrated(graph, images, method=CalibrationMethod.MIN_MAX):
    """Measure the ranges of a model's activations over images."""
    return ranges(graph, images, measure(graph, images), method)


def tensor_values(data, name, images):
    """Real values of an activation over the images: float64 [images, ...]."""
    interpreter = open_interpreter(data, keep_tensors=True)
    detail = next(detail for detail in interpreter.get_tensor_details() if detail["name"] == name)
    scale, zero_point = detail["quantization"]
    values = [run.get_tensor(detail["index"]).astype(np.float64) for run in run_over(interpreter, images)]
    return (np.concatenate(values) - zero_point) * (scale or 1.0)


def write_job(folder, data, representative, check, variants, *, truth=None, max_drop_points=50.0, **settings):
    """Write the work folder of a quantization of a model that answers with softmax, and make its job."""
    folder.mkdir(exist_ok=True)
    exact = probabilities(data, check)
    (folder / BASE_TFLITE).write_bytes(data)
    np.save(folder / REPRESENTATIVE_FILE, representative)
    np.save(folder / CHECK_FILE, check)
    np.save(folder / TRUTH_FILE, exact.argmax(axis=1) if truth is None else truth)
    np.save(folder / f"keras-{CHECK_FILE}", exact)
    output, choices = OutputSpec(Head.SOFTMAX, 0.0), QuantizeSettings(**settings)
    return QuantizeJob(str(folder), "model", variants, output, max_drop_points, 7, choices)
