"""What an opened model takes and gives: by its manifest, by its metadata, and by what a person said about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.contract import InputSpec
from edge_runtime.engines.base import Engine
from edge_runtime.errors import CompatibilityError, UsageError
from edge_runtime.modelfile import ModelFile
from edge_runtime.tensors import quantize

_DTYPES = ("uint8", "int8", "int16", "float32", "float16")


def unsaid(model: ModelFile, engine: Engine | None) -> tuple[str, ...]:
    """What must be said about a model and was not, an option each; nothing for one with a manifest.

    Args:
        model: The file, with what was said about it and what its metadata says.
        engine: The opened model, or None where it cannot be opened here.
    """
    missing = []
    if model.manifest:
        return ()
    if model.labels is None:
        lines = f" ({_size(engine.output.shape)} lines)" if engine else ""
        missing.append(f"--labels FILE, one label a line{lines}")
    if model.foreign.crop is None:
        missing.append("--crop center|stretch|letterbox, as in its training")
    if engine and engine.input.dtype != "uint8" and model.input_ranges is None:
        missing.append(f"--input-range LOW,HIGH, what pixels 0 and 255 become ({engine.input.dtype} input)")
    return tuple(missing)


def input_spec_of(model: ModelFile, engine: Engine) -> InputSpec:
    """Geometry of an opened model.

    Raises:
        UsageError: Something is left to be said.
        CompatibilityError: It does not take one RGB picture, or another size than its manifest says.
    """
    shape = engine.input.shape
    for tensor in (engine.input, engine.output):
        if tensor.dtype not in _DTYPES:
            raise CompatibilityError(f"{model.path}: expected tensors of {', '.join(_DTYPES)}, got {tensor.dtype}")
    if len(shape) != 4 or shape[0] != 1 or shape[3] != 3:
        raise CompatibilityError(f"{model.path}: expected an input [1, H, W, 3], got {list(shape)}")
    if model.input_spec is None:
        missing = unsaid(model, engine)
        if missing or model.foreign.crop is None:
            raise UsageError(f"{model.path}: carries no manifest; say {'; '.join(missing)}")
        try:
            return InputSpec(height=shape[1], width=shape[2], crop=model.foreign.crop)
        except ValueError as error:
            raise CompatibilityError(f"{model.path}: takes an input {list(shape)}, but {error}") from error
    if shape[1:] != model.input_spec.shape_hwc:
        raise CompatibilityError(
            f"{model.path}: its manifest says input {list(model.input_spec.shape_hwc)}, the model {list(shape[1:])}"
        )
    return model.input_spec


def labels_of(model: ModelFile, engine: Engine) -> tuple[str, ...]:
    """Labels of an opened model, in the order of its outputs.

    Raises:
        CompatibilityError: Not as many as it has outputs.
    """
    labels = model.labels or ()
    width = model.output_spec.width(len(labels)) if model.output_spec else len(labels)
    found = _size(engine.output.shape)
    if found != width:
        raise CompatibilityError(
            f"{model.path}: {len(labels)} labels need {width} outputs, but the model has {found}; "
            "give the labels that belong to it"
        )
    return labels


def input_lookup(model: ModelFile, engine: Engine) -> NDArray[Any] | None:
    """Table from pixel value to the model's input value, [256] or [256, 3]; None where pixels go in untouched.

    Raises:
        CompatibilityError: A manifest beside a model that does not take pixels.
    """
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


def _size(shape: Sequence[int]) -> int:
    size = 1
    for side in shape:
        size *= side
    return size
