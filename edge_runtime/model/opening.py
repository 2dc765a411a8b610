"""Open a found model in a runtime and derive its input spec, labels and input lookup table.

An unverified file runs in the sandbox first; where the Edge TPU cannot be used, the CPU fallback is opened.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_runtime.contract import InputSpec
from edge_runtime.decision import quantize
from edge_runtime.engines.base import Engine, EngineName, import_runtime, open_engine, parse_engine
from edge_runtime.errors import CompatibilityError, EngineError, UsageError
from edge_runtime.model.bundle import ModelFile, find_model
from edge_runtime.model.sandbox import needs_sandbox, require_sandbox_pass

_DTYPES = ("uint8", "int8", "int16", "float32", "float16")


class OpenedModel(NamedTuple):
    """An opened model.

    Attributes:
        model: The file that was opened; the CPU fallback where the Edge TPU could not be used.
        engine: The opened runtime.
        note: One sentence for the user about a fallback, or None.
    """

    model: ModelFile
    engine: Engine
    note: str | None = None


def open_model(model: ModelFile, engine: EngineName | str = EngineName.AUTO, threads: int = 1) -> OpenedModel:
    """Open a model that `edge_runtime.model.bundle.find_model` found.

    Where the Edge TPU variant of a bundle was chosen by default and the Edge TPU cannot be used, the CPU fallback of
    the same bundle is opened.

    Args:
        model: The model file.
        engine: Engine name as `edge_runtime.engines.base.parse_engine` takes it.
        threads: Threads inside one inference, 1 or more.

    Raises:
        EdgeKitError: It cannot be used here; see `edge_runtime.errors`.
    """
    try:
        return OpenedModel(model, _open(model, engine, threads))
    except EngineError as error:
        is_wanted = parse_engine(engine)[0] is EngineName.EDGETPU
        if model.cpu_fallback is None or not model.is_default or is_wanted:
            raise
        reason = str(error).removeprefix(f"{model.path}: ")
    fallback = find_model(model.path.parent, model.cpu_fallback)
    note = f"{model.path}: {reason}; {fallback.path.name} runs on the processor instead"
    return OpenedModel(fallback, _open(fallback, engine, threads), note)


def _open(model: ModelFile, engine: EngineName | str, threads: int) -> Engine:
    if not model.is_verified:
        runtime = import_runtime(model.path, engine)
        if needs_sandbox(model.path, runtime):
            require_sandbox_pass(model.path, engine, runtime)
    advice = f"run the same bundle with --variant {model.cpu_fallback.value}" if model.cpu_fallback else None
    return open_engine(model.path, engine, threads, structure=model.structure, cpu_fallback=advice)


def missing_options(model: ModelFile, engine: Engine | None) -> tuple[str, ...]:
    """List the command-line options that a model without a manifest still needs, each with its meaning.

    Args:
        model: The model file, with its options and metadata.
        engine: The opened model, or None where it cannot be opened here.
    """
    missing = []
    if model.manifest:
        return ()
    if model.labels is None:
        lines = f" ({math.prod(engine.output.shape)} lines)" if engine else ""
        missing.append(f"--labels FILE, one label a line{lines}")
    if model.options.crop is None:
        missing.append("--crop center|stretch|letterbox, as in its training")
    if engine and engine.input.dtype != "uint8" and model.input_ranges is None:
        missing.append(f"--input-range LOW,HIGH, what pixels 0 and 255 become ({engine.input.dtype} input)")
    return tuple(missing)


def input_spec_of(model: ModelFile, engine: Engine) -> InputSpec:
    """Geometry of an opened model.

    Raises:
        UsageError: An option is missing for a model without a manifest.
        CompatibilityError: It does not take one RGB image, or another size than its manifest says.
    """
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


def labels_of(model: ModelFile, engine: Engine) -> tuple[str, ...]:
    """Labels of an opened model, in the order of its outputs.

    Raises:
        CompatibilityError: The number of labels does not fit the outputs.
    """
    labels = model.labels or ()
    width = model.output_spec.width(len(labels)) if model.output_spec else len(labels)
    found = math.prod(engine.output.shape)
    if found != width:
        raise CompatibilityError(
            f"{model.path}: {len(labels)} labels need {width} outputs, but the model has {found}; "
            "give the labels that belong to it"
        )
    return labels


def input_lookup(model: ModelFile, engine: Engine) -> NDArray[Any] | None:
    """Table from pixel value to the model's input value, [256] or [256, 3]; None for a model that takes pixels.

    Raises:
        CompatibilityError: A model with a manifest that does not take pixels.
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
