"""Load a model with Keras 3, tf_keras or SavedModel, and prepare its input pixels. Needs TensorFlow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convert.children import ExportJob
from convert.options import InputRange, Loader, ModelColor, ModelOutput
from convert.source.saved_model import choose_signature
from edge_runtime.contract import Head
from edge_runtime.errors import ModelError, shorten

_BATCH_SIZE = 32
# A multiple of the batch size; bounds the memory that images take as float32.
_CHUNK = 256
# ITU-R BT.601, as in JPEG, Pillow's convert("L") and OpenCV's cvtColor.
_LUMA_RGB = (0.299, 0.587, 0.114)
_LOAD_ERRORS = (
    *(ValueError, TypeError, KeyError, IndexError, AttributeError, AssertionError),
    *(OSError, RuntimeError, ImportError),
)


@dataclass(frozen=True)
class Loaded:
    """Loaded model.

    Attributes:
        call: Function of one tensor [batch, height, width, channels], for building a graph.
        predict: Prediction function of the library: float32 pixels in, float32 [n, outputs] out.
        dtype: TensorFlow's name of the input type.
        versions: Library and version that loaded the model.
    """

    call: Callable[[Any], Any]
    predict: Callable[[NDArray[np.float32]], NDArray[np.float32]]
    dtype: str
    versions: str


def load(job: ExportJob) -> Loaded:
    """Load the model and check it against the manifest.

    Raises:
        ModelError: The model cannot be loaded, or is not a classifier with one input and one output.
    """
    import tensorflow as tf

    load_one = {Loader.KERAS3: _load_keras3, Loader.TF_KERAS: _load_tf_keras, Loader.SAVED_MODEL: _load_saved_model}
    try:
        return load_one[job.loader](job)
    except (*_LOAD_ERRORS, tf.errors.OpError) as error:
        raise ModelError(f"{job.shown}: {job.loader.value} cannot load it ({first_line(error)})") from error


def answer(job: ExportJob, loaded: Loaded, images_nhwc_rgb_u8: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Compute the original model's probabilities, float32 [n, labels] or [n, 1], with pixels prepared in NumPy.

    Raises:
        ModelError: The model fails, or its output is not one probability per label.
    """
    import tensorflow as tf

    parts = []
    for start in range(0, len(images_nhwc_rgb_u8), _CHUNK):
        pixels = prepare_pixels(images_nhwc_rgb_u8[start : start + _CHUNK], job.input_range, job.color)
        try:
            parts.append(np.asarray(loaded.predict(pixels), np.float32))
        except (*_LOAD_ERRORS, tf.errors.OpError) as error:
            raise ModelError(
                f"{job.shown}: fails on images of {list(pixels.shape[1:])} ({first_line(error)})"
            ) from error
    outputs = np.concatenate(parts)
    _check_outputs(job, outputs.shape)
    if job.output is ModelOutput.LOGITS:
        outputs = _probabilities_of(outputs, job.head)
    _check_probabilities(job, outputs)
    return outputs


def prepare_pixels(
    images_nhwc_rgb_u8: NDArray[np.uint8], input_range: InputRange, color: ModelColor
) -> NDArray[np.float32]:
    """Scale and reorder pixels for the original model: float32 [n, height, width, 3], or 1 channel for grey."""
    pixels = images_nhwc_rgb_u8.astype(np.float32)
    if color is ModelColor.BGR:
        pixels = np.ascontiguousarray(pixels[..., ::-1])
    elif color is ModelColor.GRAY:
        pixels = pixels @ np.array(_LUMA_RGB, np.float32)[:, np.newaxis]
    if input_range is InputRange.UNIT:
        pixels = pixels / np.float32(255.0)
    elif input_range is InputRange.SIGNED:
        pixels = pixels / np.float32(127.5) - np.float32(1.0)
    return pixels


def pixel_graph(image: Any, input_range: InputRange, color: ModelColor) -> Any:
    """Scale and reorder pixels as TensorFlow operators, for the exports: float32 [batch, height, width, channels].

    BGR and grey are a 1x1 convolution that scales too: one operator that every runtime and the Edge TPU have, whose
    weights, one number per channel, lose nothing in int8. Reversing an axis would run on the CPU only.
    """
    import tensorflow as tf

    pixels = tf.cast(image, tf.float32)
    factor, offset = {
        InputRange.BYTE: (1.0, 0.0),
        InputRange.UNIT: (1.0 / 255.0, 0.0),
        InputRange.SIGNED: (1.0 / 127.5, -1.0),
    }[input_range]
    if color is not ModelColor.RGB:
        mixing = np.eye(3)[:, ::-1] if color is ModelColor.BGR else np.array(_LUMA_RGB)[:, np.newaxis]
        kernel_hwio = tf.constant((mixing * factor)[np.newaxis, np.newaxis], tf.float32)
        mixed = tf.nn.conv2d(pixels, kernel_hwio, strides=1, padding="VALID")
        # A vector, which every converter takes for the convolution's own bias.
        return tf.nn.bias_add(mixed, tf.fill([mixed.shape[-1]], offset)) if offset else mixed
    scaled = pixels * factor if factor != 1.0 else pixels
    return scaled + offset if offset else scaled


def first_line(error: BaseException) -> str:
    """Shorten a library's error, which may be pages long, to its main line."""
    text = str(error)
    # Keras quotes the whole configuration before the reason.
    for mark in ("Exception encountered:", "Error encountered during deserialization:"):
        text = text.rpartition(mark)[2]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return shorten(f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__, 240)


def _load_keras3(job: ExportJob) -> Loaded:
    import keras

    model = keras.saving.load_model(_with_suffix(job), compile=False, safe_mode=not job.unsafe)
    return _keras_model(job, model, f"keras {keras.__version__}")


def _load_tf_keras(job: ExportJob) -> Loaded:
    import tf_keras

    model = tf_keras.models.load_model(_with_suffix(job), compile=False, safe_mode=not job.unsafe)
    return _keras_model(job, model, f"tf-keras {tf_keras.__version__}")


def _with_suffix(job: ExportJob) -> str:
    """Link the model in the work folder under the suffix of its content, since Keras goes by the suffix."""
    path = Path(job.model)
    with path.open("rb") as file:
        suffix = ".keras" if file.read(2) == b"PK" else ".h5"
    link = Path(job.work_dir) / f"model{suffix}"
    link.unlink(missing_ok=True)
    link.symlink_to(path)
    return str(link)


def _keras_model(job: ExportJob, model: Any, versions: str) -> Loaded:
    if not getattr(model, "inputs", None) or not getattr(model, "outputs", None):
        # A Sequential without an input layer.
        model.build((None, *_model_shape(job)))
    _check_one(job, "input", list(model.inputs))
    _check_one(job, "output", list(model.outputs))
    _check_input(job, tuple(model.inputs[0].shape))
    _check_outputs(job, tuple(model.outputs[0].shape))
    dtype = model.inputs[0].dtype
    return Loaded(
        call=lambda pixels: _only(model(pixels, training=False)),
        predict=lambda pixels: _only(model.predict(pixels, batch_size=_BATCH_SIZE, verbose=0)),
        dtype=getattr(dtype, "name", str(dtype)),
        versions=versions,
    )


def _only(outputs: Any) -> Any:
    """Unwrap the single tensor of a model that returns it in a list or by name."""
    while isinstance(outputs, (dict, list, tuple)):
        (outputs,) = outputs.values() if isinstance(outputs, dict) else outputs
    return outputs


def _load_saved_model(job: ExportJob) -> Loaded:
    import tensorflow as tf

    model = tf.saved_model.load(job.model)
    name = choose_signature(model.signatures)
    if name is None:
        raise ModelError(
            f"{job.shown}: expected a signature serving_default, got {', '.join(model.signatures) or 'none'}"
        )
    signature = model.signatures[name]
    arguments, results = signature.structured_input_signature[1], signature.structured_outputs
    _check_one(job, "input", list(arguments))
    _check_one(job, "output", list(results))
    ((argument, spec),) = arguments.items()
    ((result, tensor),) = results.items()
    if spec.shape.rank is not None:
        _check_input(job, tuple(spec.shape))
    if tensor.shape.rank is not None:
        _check_outputs(job, tuple(tensor.shape))

    def call(pixels: Any) -> Any:
        # The model stays alive as long as its variables are needed.
        return model.signatures[name](**{argument: pixels})[result]

    def predict(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        typed = pixels if spec.dtype == tf.float32 else np.rint(pixels).astype(spec.dtype.as_numpy_dtype)
        batches = [typed[start : start + _BATCH_SIZE] for start in range(0, len(typed), _BATCH_SIZE)]
        return np.concatenate([np.asarray(call(tf.constant(batch)), np.float32) for batch in batches])

    return Loaded(call, predict, spec.dtype.name, f"saved model of tensorflow {tf.__version__}")


def _model_shape(job: ExportJob) -> tuple[int, int, int]:
    return (job.input.height, job.input.width, 1 if job.color is ModelColor.GRAY else 3)


def _check_one(job: ExportJob, what: str, tensors: list[Any]) -> None:
    if len(tensors) != 1:
        raise ModelError(f"{job.shown}: expected a classifier with one {what}, got {len(tensors)} {what}s")


def _check_input(job: ExportJob, shape: tuple[int | None, ...]) -> None:
    wanted = _model_shape(job)
    fits = len(shape) == 4 and all(size in (None, want) for size, want in zip(shape[1:], wanted, strict=True))
    if not fits or shape[0] is not None:
        raise ModelError(
            f"{job.shown}: expected an input [batch, {', '.join(map(str, wanted))}] for --color {job.color.value} with "
            f"an open batch size, got {list(shape)}"
        )


def _check_outputs(job: ExportJob, shape: tuple[int | None, ...]) -> None:
    if len(shape) != 2:
        raise ModelError(
            f"{job.shown}: expected a classifier, whose output is [batch, labels], got {list(shape)}, which is that of "
            "a detector, a segmenter or a feature extractor"
        )
    if shape[1] is not None and shape[1] != job.output_width:
        raise ModelError(
            f"{job.shown}: expected {job.output_width} outputs for {job.label_count} labels, got {shape[1]}; "
            "give as many labels as the model has outputs (one output for two labels must be a Dense layer of one unit)"
        )


def _probabilities_of(logits: NDArray[np.float32], head: Head) -> NDArray[np.float32]:
    if head is Head.SIGMOID:
        # tanh does not overflow, as exp would for logits of -100.
        return np.float32(0.5) * (np.float32(1.0) + np.tanh(np.float32(0.5) * logits))
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    result: NDArray[np.float32] = shifted / shifted.sum(axis=1, keepdims=True)
    return result


def _check_probabilities(job: ExportJob, outputs: NDArray[np.float32]) -> None:
    tolerance = 1e-3
    low, high = float(outputs.min()), float(outputs.max())
    sums = outputs.sum(axis=1)
    if not np.isfinite(outputs).all():
        found = "values that are not finite"
    elif low < -tolerance or high > 1.0 + tolerance:
        found = f"values from {low:.3g} to {high:.3g}"
    elif job.head is Head.SOFTMAX and float(np.abs(sums - 1.0).max()) > tolerance:
        found = f"rows that sum to {float(sums.min()):.3g} to {float(sums.max()):.3g}"
    else:
        return
    raise ModelError(
        f"{job.shown}: expected probabilities, 0 to 1 and with sum 1, got {found}; add --output logits if the model "
        "ends without softmax or sigmoid (multi-label and regression models are not supported)"
    )
