"""Quantize and dequantize by a tensor's own parameters: real = scale * (quantized - zero_point).

Source of the rule: the TensorFlow Lite 8-bit quantization specification.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class TensorInfo:
    """A model's input or output tensor.

    Attributes:
        name: As the file says.
        shape: With 1 where the file leaves the batch open.
        dtype: numpy name: ``uint8``, ``int8``, ``int16`` or ``float32``.
        scale: Step of one quantized unit; 0 where the tensor is not quantized.
        zero_point: Quantized value of real 0.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float
    zero_point: int


def dequantize(values: NDArray[Any], info: TensorInfo) -> NDArray[np.float32]:
    """Real values of a tensor, float32 of the same shape; floats pass through."""
    if info.scale == 0.0:
        return values.astype(np.float32)
    real: NDArray[np.float32] = (values.astype(np.int32) - info.zero_point).astype(np.float32)
    scaled: NDArray[np.float32] = np.multiply(real, np.float32(info.scale), dtype=np.float32)
    return scaled


def quantize(real: NDArray[Any], info: TensorInfo) -> NDArray[Any]:
    """Values of a tensor's dtype for real ones, rounded half to even and clipped; floats pass through."""
    dtype = np.dtype(info.dtype)
    if info.scale == 0.0:
        return real.astype(dtype)
    limits = np.iinfo(dtype)
    steps: NDArray[Any] = np.rint(real / info.scale) + info.zero_point
    return np.asarray(np.clip(steps, limits.min, limits.max), dtype)
