"""Turn the outputs of a model into an answer, and (de)quantize tensors: real = scale * (quantized - zero_point).

Source of the rule: the TensorFlow Lite 8-bit quantization specification.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.contract import Head, OutputSpec, TensorSpec


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
    """Add the second column to the outputs of a sigmoid head.

    Args:
        outputs: float32 [n, labels] of a softmax head, [n, 1] of a sigmoid head.
        output: Meaning of the outputs.

    Returns:
        float32 [n, labels], one probability a label.
    """
    if output.head is Head.SIGMOID:
        return np.concatenate([np.float32(1.0) - outputs, outputs], axis=1)
    return outputs


def top1(probabilities: NDArray[np.float32], output: OutputSpec) -> NDArray[np.int64]:
    """Label index of each answer: int64 [n] for float32 [n, labels].

    The first of equal probabilities wins, on every machine; a sigmoid head's second label wins from its threshold on.
    """
    if output.head is Head.SIGMOID:
        answers: NDArray[np.int64] = (probabilities[:, 1] >= output.decision_threshold).astype(np.int64)
    else:
        answers = np.argmax(probabilities, axis=1).astype(np.int64)
    return answers


def answer_of(probabilities: NDArray[np.float32], output: OutputSpec) -> int:
    """`top1` of one image: float32 [labels] to the index of its label; fast, as small models need less than this."""
    if output.head is Head.SIGMOID:
        return int(probabilities[1] >= np.float32(output.decision_threshold))
    return int(probabilities.argmax())
