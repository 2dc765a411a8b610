"""Classify one image: ranked labels, with the stages callable one by one.

Quantized tensors follow the TensorFlow Lite 8-bit quantization specification: real = scale * (quantized - zero_point).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.contract import Head, InputSpec, OutputSpec, TensorSpec, Variant
from edge_runtime.engines import Engine, EngineName
from edge_runtime.errors import CompatibilityError, EngineError, ImageError, UsageError
from edge_runtime.model.bundle import ModelFile, ModelOptions, OpenedModel, find_model, missing_options, open_model
from edge_runtime.preprocess import ImageU8, load_prepared, prepare
from edge_runtime.results import Prediction

_DTYPES = ("uint8", "int8", "int16", "float32", "float16")
_FEW_LABELS = 64
_FEW_WANTED = 8


class Classifier:
    """An opened image classifier. Not thread-safe: give each thread its own.

    ``with Classifier("bundle") as classifier: classifier.classify("photo.jpg")`` closes it at the end of the block.

    Args:
        model: A bundle directory, a ``.tflite`` or ``.onnx`` file, or an already found `ModelFile`.
        variant: Artifact of a bundle; None takes the fastest on this device, as far as is known.
        engine: Runtime name: ``auto`` (fits the file), ``litert``, ``tflite-runtime``, ``onnxruntime``, ``edgetpu`` or
            ``edgetpu:DEVICE``; or an opened engine.
        threads: Threads inside one inference, 1 or more.
        options: Contract of a model without a manifest: labels, crop and input range.

    Attributes:
        model: The opened file; the CPU fallback of a bundle's default where the Edge TPU fails.
        engine: The opened runtime.
        note: One sentence for the user about a fallback, or None; nothing is printed here.
        labels: Labels in the order of the probabilities.
        input_spec: Geometry of the input.
        output_spec: Meaning of the output.

    Raises:
        EdgeKitError: The model cannot be used; see `edge_runtime.errors`.
    """

    def __init__(
        self,
        model: str | Path | ModelFile,
        *,
        variant: Variant | str | None = None,
        engine: EngineName | str | Engine = EngineName.AUTO,
        threads: int = 1,
        options: ModelOptions | None = None,
    ) -> None:
        if not isinstance(model, ModelFile):
            name = engine if isinstance(engine, str) else EngineName.AUTO
            model = find_model(Path(model), Variant(variant) if variant else None, options, engine=name)
        opened = open_model(model, engine, threads) if isinstance(engine, str) else OpenedModel(model, engine)
        self.model, self.engine, self.note = opened.model, opened.engine, opened.note
        self.input_spec: InputSpec = _input_spec(self.model, self.engine)
        self.labels: tuple[str, ...] = _labels(self.model, self.engine)
        self.output_spec: OutputSpec = self.model.output_spec or OutputSpec(Head.SOFTMAX, 0.0)
        self._lookup = _input_lookup(self.model, self.engine)
        self._is_closed = False

    def classify(self, image: str | Path | ImageU8, top_k: int = 5) -> list[Prediction]:
        """Classify one image.

        Args:
            image: An image file, or uint8 [height, width, 3] in RGB.
            top_k: Maximum number of predictions, 1 or more.

        Returns:
            Predictions, the answer first; see `is_rejected`.

        Raises:
            ImageError: The image cannot be decoded.
            EngineError: The runtime failed, or the classifier was closed.
        """
        if isinstance(image, (str, Path)):
            try:
                prepared = load_prepared(Path(image), self.input_spec)
            except ImageError as error:
                raise ImageError(f"{image}: {error}") from error
        else:
            prepared = self.prepare(image)
        return self.rank(self.probabilities(prepared), top_k)

    def prepare(self, image_hwc_rgb_u8: ImageU8) -> ImageU8:
        """Crop and resize: any uint8 [h, w, 3] RGB to uint8 [H, W, 3] RGB."""
        return prepare(image_hwc_rgb_u8, self.input_spec)

    def probabilities(self, prepared_hwc_rgb_u8: ImageU8) -> NDArray[np.float32]:
        """Run the model on one prepared image: uint8 [H, W, 3] RGB to float32 [N], in label order.

        Raises:
            EngineError: The runtime failed, or the classifier was closed.
        """
        return self.probabilities_of(self.invoke(prepared_hwc_rgb_u8))

    def invoke(self, prepared_hwc_rgb_u8: ImageU8) -> NDArray[Any]:
        """Run the model on one prepared image: uint8 [H, W, 3] RGB to its output tensor as it is."""
        if self._is_closed:
            raise EngineError(f"{self.model.path}: the classifier was closed; make a new one")
        tensor: NDArray[Any] = prepared_hwc_rgb_u8[np.newaxis]
        if self._lookup is not None:
            tensor = self._lookup[tensor] if self._lookup.ndim == 1 else self._lookup[tensor, np.arange(3)]
        return self.engine.invoke(tensor)

    def probabilities_of(self, output: NDArray[Any]) -> NDArray[np.float32]:
        """Dequantize an output tensor, and widen that of a sigmoid head: float32 [N], in label order."""
        outputs = dequantize(output, self.engine.output).reshape(1, -1)
        probabilities: NDArray[np.float32] = widen(outputs, self.output_spec)[0]
        return probabilities

    def rank(self, probabilities: NDArray[np.float32], top_k: int = 5) -> list[Prediction]:
        """Order float32 [N] probabilities into at most ``top_k`` predictions, the answer first.

        Raises:
            EngineError: A probability is not a number.
        """
        answer = answer_of(probabilities, self.output_spec)
        wanted = min(max(1, top_k), len(probabilities))
        order = _in_order(probabilities, answer, wanted)
        top = [Prediction(self.labels[index], float(probabilities[index])) for index in order]
        # argmax of an array with a NaN is that NaN.
        if not math.isfinite(top[0].score):
            raise EngineError(
                f"{self.model.path}: expected a probability, but the model gave {top[0].score}; "
                "use another variant, or convert it again"
            )
        return top

    @property
    def reject_threshold(self) -> float:
        """Score of an answer below which the image may be none of the labels, 0..1; 0 rejects none."""
        return self.output_spec.reject_threshold

    def is_rejected(self, predictions: Sequence[Prediction]) -> bool:
        """Tell whether the answer, the first of the predictions, scores below `reject_threshold`."""
        return predictions[0].score < self.reject_threshold

    def close(self) -> None:
        """Release the runtime; calling it again does nothing."""
        self._is_closed = True
        self.engine.close()

    def __enter__(self) -> Classifier:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _input_spec(model: ModelFile, engine: Engine) -> InputSpec:
    shape = engine.input.shape
    for tensor in (engine.input, engine.output):
        if tensor.dtype not in _DTYPES:
            raise CompatibilityError(f"{model.path}: expected tensors of {', '.join(_DTYPES)}, got {tensor.dtype}")
    if len(shape) != 4 or shape[0] != 1 or shape[3] != 3:
        raise CompatibilityError(f"{model.path}: expected an input [1, H, W, 3], got {list(shape)}")
    if model.input_spec is None:
        missing = missing_options(model, engine)
        if missing or model.options.crop is None:
            raise UsageError(f"{model.path}: carries no manifest; say {'; '.join(missing)}")
        try:
            return InputSpec(height=shape[1], width=shape[2], crop=model.options.crop)
        except ValueError as error:
            raise CompatibilityError(f"{model.path}: takes an input {list(shape)}, but {error}") from error
    if shape[1:] != model.input_spec.shape_hwc:
        raise CompatibilityError(
            f"{model.path}: its manifest says input {list(model.input_spec.shape_hwc)}, the model {list(shape[1:])}"
        )
    return model.input_spec


def _labels(model: ModelFile, engine: Engine) -> tuple[str, ...]:
    labels = model.labels or ()
    width = model.output_spec.width(len(labels)) if model.output_spec else len(labels)
    found = math.prod(engine.output.shape)
    if found != width:
        raise CompatibilityError(
            f"{model.path}: {len(labels)} labels need {width} outputs, but the model has {found}; "
            "give the labels that belong to it"
        )
    return labels


def _input_lookup(model: ModelFile, engine: Engine) -> NDArray[Any] | None:
    """Table from pixel value to the model's input value, [256] or [256, 3]; None for a model that takes pixels."""
    if engine.input.dtype == "uint8":
        return None
    if model.manifest or model.input_ranges is None:
        raise CompatibilityError(
            f"{model.path}: its manifest goes with a uint8 input, but the model takes {engine.input.dtype}; "
            "export it again"
        )
    shares = np.arange(256) / 255.0
    real = np.stack([shares * (high - low) + low for low, high in model.input_ranges], axis=1).astype(np.float32)
    return quantize(real[:, 0] if real.shape[1] == 1 else real, engine.input)


def _in_order(probabilities: NDArray[np.float32], answer: int, wanted: int) -> list[int]:
    """Indices of the answer and the strongest others; equal scores stay in label order, the same on every machine."""
    if len(probabilities) <= _FEW_LABELS or wanted > _FEW_WANTED:
        # For few labels, the overhead of numpy calls exceeds their work.
        order = sorted(range(len(probabilities)), key=probabilities.tolist().__getitem__, reverse=True)
        return order[:wanted] if order[0] == answer else [answer, *(each for each in order if each != answer)][:wanted]
    # Sorting a thousand labels for the best three would take longer than the rest of the loop around a model.
    left, order = probabilities.copy(), [answer]
    for _ in range(wanted - 1):
        left[order[-1]] = -np.inf
        order.append(int(left.argmax()))
    # An index repeats if only minus infinity is left.
    return list(dict.fromkeys(order))


def dequantize(values: NDArray[Any], info: TensorSpec) -> NDArray[np.float32]:
    """Convert a tensor to real values, float32 of the same shape; float32 is returned as it is."""
    if info.scale == 0.0:
        return values.astype(np.float32, copy=False)
    # The difference of two integers of 16 bits or fewer is exact in float32.
    real: NDArray[np.float32] = np.subtract(values, np.float32(info.zero_point), dtype=np.float32)
    real *= np.float32(info.scale)
    return real


def quantize(real: NDArray[Any], info: TensorSpec) -> NDArray[Any]:
    """Convert real values to a tensor's dtype, rounded half to even and clipped; floats pass through."""
    dtype = np.dtype(info.dtype)
    if info.scale == 0.0:
        return real.astype(dtype)
    limits = np.iinfo(dtype)
    steps: NDArray[Any] = np.rint(real / info.scale) + info.zero_point
    return np.asarray(np.clip(steps, limits.min, limits.max), dtype)


def widen(outputs: NDArray[np.float32], output: OutputSpec) -> NDArray[np.float32]:
    """Add the second column to the outputs of a sigmoid head: float32 [n, 1] or [n, labels] to [n, labels]."""
    if output.head is Head.SIGMOID:
        return np.concatenate([np.float32(1.0) - outputs, outputs], axis=1)
    return outputs


def top1(probabilities: NDArray[np.float32], output: OutputSpec) -> NDArray[np.int64]:
    """Label index of each answer: int64 [n] for float32 [n, labels].

    The first of equal probabilities wins, on every machine; a sigmoid head's second label wins from its threshold on.
    """
    is_sigmoid = output.head is Head.SIGMOID
    answers = probabilities[:, 1] >= output.decision_threshold if is_sigmoid else np.argmax(probabilities, axis=1)
    return answers.astype(np.int64)


def answer_of(probabilities: NDArray[np.float32], output: OutputSpec) -> int:
    """`top1` of one image: float32 [labels] to the index of its label; fast, as small models need less than this."""
    if output.head is Head.SIGMOID:
        return int(probabilities[1] >= np.float32(output.decision_threshold))
    return int(probabilities.argmax())
