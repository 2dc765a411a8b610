"""The glue: one picture in, ranked labels out, with the stages callable one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.contract import Head, InputSpec, OutputSpec, Variant
from edge_runtime.decision import top1, widen
from edge_runtime.engines.base import Engine
from edge_runtime.engines.opening import EngineName, open_engine
from edge_runtime.errors import CompatibilityError, UsageError
from edge_runtime.modelfile import Foreign, ModelFile, find_model
from edge_runtime.preprocess import ImageU8, load_prepared, prepare
from edge_runtime.tensors import dequantize, quantize


@dataclass(frozen=True)
class Prediction:
    """One label and its probability 0..1."""

    label: str
    score: float


class Classifier:
    """An opened image classifier. Not thread-safe: give each thread its own.

    Args:
        model: A bundle directory, a ``.tflite`` or ``.onnx`` file, or an already found `ModelFile`.
        variant: Which artifact of a bundle; None takes what this device is presumed to run fastest.
        engine: Which runtime, ``auto`` fits the file; or one that is already open.
        threads: Threads inside one inference.
        foreign: What a model without a manifest needs to be told.

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
        foreign: Foreign | None = None,
    ) -> None:
        if not isinstance(model, ModelFile):
            model = find_model(Path(model), Variant(variant) if variant else None, foreign)
        self.model = model
        if isinstance(engine, str):
            engine = open_engine(model.path, EngineName(engine), threads)
        self.engine: Engine = engine
        self.input_spec: InputSpec = _input_spec(model, self.engine)
        self.labels: tuple[str, ...] = _labels(model, self.engine)
        self.output_spec: OutputSpec = model.output_spec or OutputSpec(Head.SOFTMAX, 0.0)
        self._lookup = _input_lookup(model, self.engine)

    def classify(self, image: str | Path | ImageU8, top_k: int = 5) -> list[Prediction]:
        """Classify one picture.

        Args:
            image: A picture file, or uint8 [height, width, 3] in RGB.
            top_k: How many predictions at most.

        Returns:
            Predictions, the answer first.

        Raises:
            ImageError: The picture cannot be decoded.
            EngineError: The runtime failed.
        """
        if isinstance(image, (str, Path)):
            prepared = load_prepared(Path(image), self.input_spec)
        else:
            prepared = self.prepare(image)
        return self.rank(self.probabilities(prepared), top_k)

    def prepare(self, image_hwc_rgb_u8: ImageU8) -> ImageU8:
        """Crop and resize: any uint8 [h, w, 3] RGB to uint8 [H, W, 3] RGB."""
        return prepare(image_hwc_rgb_u8, self.input_spec)

    def probabilities(self, prepared_hwc_rgb_u8: ImageU8) -> NDArray[np.float32]:
        """Run the model on one prepared picture: uint8 [H, W, 3] RGB to float32 [N], in label order."""
        tensor: NDArray[Any] = prepared_hwc_rgb_u8[np.newaxis]
        if self._lookup is not None:
            tensor = self._lookup[tensor]
        outputs = dequantize(self.engine.invoke(tensor), self.engine.output).reshape(1, -1)
        probabilities: NDArray[np.float32] = widen(outputs, self.output_spec)[0]
        return probabilities

    def rank(self, probabilities: NDArray[np.float32], top_k: int = 5) -> list[Prediction]:
        """Order float32 [N] probabilities into at most ``top_k`` predictions, the answer first."""
        answer = int(top1(probabilities[np.newaxis], self.output_spec)[0])
        # Stable, so that equal quantized scores rank in label order on every machine.
        others = [int(index) for index in np.argsort(-probabilities, kind="stable") if index != answer]
        order = [answer, *others][: max(1, top_k)]
        return [Prediction(self.labels[index], float(probabilities[index])) for index in order]

    def close(self) -> None:
        """Release the runtime."""
        self.engine.close()

    def __enter__(self) -> Classifier:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _input_spec(model: ModelFile, engine: Engine) -> InputSpec:
    shape = engine.input.shape
    if len(shape) != 4 or shape[0] != 1 or shape[3] != 3:
        raise CompatibilityError(f"{model.path}: expected an input [1, H, W, 3], got {list(shape)}")
    if model.input_spec is None:
        missing = unsaid(model, engine)
        if missing or model.foreign.crop is None:
            raise UsageError(f"{model.path}: carries no manifest; say {'; '.join(missing)}")
        return InputSpec(height=shape[1], width=shape[2], crop=model.foreign.crop)
    if shape[1:] != model.input_spec.shape_hwc:
        raise CompatibilityError(
            f"{model.path}: its manifest says input {list(model.input_spec.shape_hwc)}, the model {list(shape[1:])}"
        )
    return model.input_spec


def unsaid(model: ModelFile, engine: Engine | None) -> tuple[str, ...]:
    """What must be said about a model and was not, an option each; nothing for one with a manifest.

    Args:
        model: The file, with what was said about it.
        engine: The opened model, or None where it cannot be opened here.
    """
    foreign, missing = model.foreign, []
    if model.manifest:
        return ()
    if foreign.labels is None:
        lines = f" ({_size(engine.output.shape)} lines)" if engine else ""
        missing.append(f"--labels FILE, one label a line{lines}")
    if foreign.crop is None:
        missing.append("--crop center|stretch|letterbox, as in its training")
    if engine and engine.input.dtype != "uint8" and foreign.input_range is None:
        missing.append(f"--input-range LOW,HIGH, what pixels 0 and 255 become ({engine.input.dtype} input)")
    return tuple(missing)


def _labels(model: ModelFile, engine: Engine) -> tuple[str, ...]:
    labels = model.manifest.labels if model.manifest else model.foreign.labels or ()
    width = model.output_spec.width(len(labels)) if model.output_spec else len(labels)
    found = _size(engine.output.shape)
    if found != width:
        raise CompatibilityError(
            f"{model.path}: {len(labels)} labels need {width} outputs, but the model has {found}; "
            "give the labels that belong to it"
        )
    return labels


def _input_lookup(model: ModelFile, engine: Engine) -> NDArray[Any] | None:
    """Table from pixel value 0..255 to the model's input value; None where pixels go in untouched."""
    if engine.input.dtype == "uint8":
        return None
    if model.foreign.input_range is None:
        raise CompatibilityError(
            f"{model.path}: its manifest goes with a uint8 input, but the model takes {engine.input.dtype}; "
            "export it again"
        )
    low, high = model.foreign.input_range
    real = (np.arange(256) / 255.0 * (high - low) + low).astype(np.float32)
    return quantize(real, engine.input)


def _size(shape: Sequence[int]) -> int:
    size = 1
    for side in shape:
        size *= side
    return size
