"""Quantize and dequantize by a tensor's own parameters: real = scale * (quantized - zero_point).

Source of the rule: the TensorFlow Lite 8-bit quantization specification.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.contract import TensorSpec


def dequantize(values: NDArray[Any], info: TensorSpec) -> NDArray[np.float32]:
    """Real values of a tensor, float32 of the same shape; floats pass through, float32 as it is."""
    if info.scale == 0.0:
        return values.astype(np.float32, copy=False)
    # The difference of two integers of 16 bits or fewer is exact in float32.
    real: NDArray[np.float32] = np.subtract(values, np.float32(info.zero_point), dtype=np.float32)
    real *= np.float32(info.scale)
    return real


def quantize(real: NDArray[Any], info: TensorSpec) -> NDArray[Any]:
    """Values of a tensor's dtype for real ones, rounded half to even and clipped; floats pass through."""
    dtype = np.dtype(info.dtype)
    if info.scale == 0.0:
        return real.astype(dtype)
    limits = np.iinfo(dtype)
    steps: NDArray[Any] = np.rint(real / info.scale) + info.zero_point
    return np.asarray(np.clip(steps, limits.min, limits.max), dtype)
