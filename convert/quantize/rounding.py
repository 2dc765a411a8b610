"""Round weights so that each layer's output stays closest, and correct biases; nothing changes in size or speed.

Nearest rounding treats each weight alone, so the errors of one output can add up. Here the weights of one output are
rounded one after the other, and each one's error is made good by those that follow, weighed by how the inputs vary
together over the calibration pictures (Frantar et al. 2022, "GPTQ", after Hassibi and Stork 1993, "Optimal Brain
Surgeon"). What remains of the error's mean goes into the bias (Nagel et al. 2019, "Data-Free Quantization Through
Weight Equalization and Bias Correction", section 4.2, with measured means).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from convert.quantize.constants import own_bias, replace_values
from convert.quantize.graph import DEPTHWISE_CONV_2D, FloatGraph, Layer, text
from convert.quantize.layer_inputs import LayerInput

_LIMIT = 127
# Share of the mean variance that is added to every variance, so that the inverse exists; GPTQ's own value.
_DAMPING = 0.01
_FLOAT32, _FLOAT16, _INT8 = 0, 1, 9
_BIAS_TYPES: dict[int, np.dtype[Any]] = {
    0: np.dtype(np.float32),
    1: np.dtype(np.float16),
    2: np.dtype(np.int32),
    4: np.dtype(np.int64),
}

Grid: TypeAlias = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Rounds values to those that the file can hold, keeping their shape."""


class Rounder:
    """Calibrated rounding for the models made from one float32 model.

    Args:
        graph: The float32 model.
        inputs: What goes into each layer, from `observe`.
    """

    def __init__(self, graph: FloatGraph, inputs: dict[str, LayerInput]) -> None:
        self._graph = graph
        self._inputs = inputs
        # Weights that several layers share cannot suit the inputs of each; they stay rounded to nearest.
        uses = Counter(layer.weights for layer in graph.layers())
        self._layers = [layer for layer in graph.layers() if layer.output in inputs and uses[layer.weights] == 1]
        # The same layer is rounded again for every model that is tried, to the same values.
        self._known: dict[tuple[str, bytes], NDArray[np.float64]] = {}

    def refine(self, model: Any, input_shift: dict[str, float] | None = None) -> None:
        """Replace int8 and float16 weights of a quantized model by better rounded ones, and correct its biases.

        Args:
            model: A ``ModelT`` made from the float32 model, with the same tensor names and nearest rounding; changed
                in place. Of layers whose weights stayed float32 only a shift of the input is corrected.
            input_shift: By layer: what its quantized input is larger by than the true one, where that is known
                beforehand.
        """
        graph = model.subgraphs[0]
        tensors = {text(tensor.name): tensor for tensor in graph.tensors}
        operators = {text(graph.tensors[operator.outputs[0]].name): operator for operator in graph.operators}
        for layer in self._layers:
            weights = tensors.get(layer.weights)
            shift = (input_shift or {}).get(layer.output, 0.0)
            if weights is None or weights.type not in (_INT8, _FLOAT16, *((_FLOAT32,) if shift else ())):
                continue
            exact = _rows(layer, self._graph.constant(layer.weights))
            if weights.type == _FLOAT32:
                rounded = exact
            else:
                rounded = self._rounded(layer, exact, weights)
                replace_values(model, weights, _stored(layer, rounded, weights))
            if layer.bias is not None:
                mean = self._inputs[layer.output].mean
                missing = ((exact - rounded) * mean).sum(axis=1) - rounded.sum(axis=1) * shift
                _add_to_bias(model, own_bias(model, operators[layer.output]), missing)

    def _rounded(self, layer: Layer, exact: NDArray[np.float64], weights: Any) -> NDArray[np.float64]:
        scale = b"" if weights.type == _FLOAT16 else np.asarray(weights.quantization.scale, np.float64).tobytes()
        key = (layer.output, scale)
        if key not in self._known:
            self._known[key] = _round_layer(layer, exact, weights, self._inputs[layer.output])
        return self._known[key]


def _rows(layer: Layer, weights: NDArray[np.float32]) -> NDArray[np.float64]:
    """One row per output: [outputs, inputs]."""
    if layer.kind == DEPTHWISE_CONV_2D:
        return weights.reshape(-1, weights.shape[-1]).T.astype(np.float64)
    return weights.reshape(len(weights), -1).astype(np.float64)


def _scale(tensor: Any, outputs: int) -> NDArray[np.float64]:
    return np.broadcast_to(np.asarray(tensor.quantization.scale, np.float64), (outputs,))


def _round_layer(layer: Layer, rows: NDArray[np.float64], tensor: Any, seen: LayerInput) -> NDArray[np.float64]:
    """The values that the rounded weights stand for, [outputs, inputs]."""
    scale = None if tensor.type == _FLOAT16 else _scale(tensor, len(rows))
    covariance = seen.covariance
    if covariance is None:
        return (to_float16 if scale is None else to_int8(scale[:, np.newaxis]))(rows)
    if layer.kind == DEPTHWISE_CONV_2D:
        # Each channel is a layer of its own with one output.
        grid = to_float16 if scale is None else to_int8(scale[:, np.newaxis])
        return round_rows(rows[:, np.newaxis], covariance, grid)[:, 0]
    grid = to_float16 if scale is None else to_int8(scale[np.newaxis])
    return round_rows(rows[np.newaxis], covariance[np.newaxis], grid)[0]


def _stored(layer: Layer, rounded: NDArray[np.float64], tensor: Any) -> NDArray[Any]:
    """The numbers of the file, in the order of the weight tensor."""
    ordered = rounded
    if tensor.type == _INT8:
        ordered = np.rint(rounded / _scale(tensor, len(rounded))[:, np.newaxis])
    if layer.kind == DEPTHWISE_CONV_2D:
        ordered = ordered.T
    return np.ascontiguousarray(ordered, np.float16 if tensor.type == _FLOAT16 else np.int8)


def _add_to_bias(model: Any, tensor: Any, missing: NDArray[np.float64]) -> None:
    dtype = _BIAS_TYPES[tensor.type]
    bias = np.frombuffer(bytes(model.buffers[tensor.buffer].data), dtype)
    if dtype.kind == "f":
        corrected = bias + missing
    else:
        info = np.iinfo(np.int64 if dtype.itemsize == 8 else np.int32)
        corrected = np.clip(bias + np.rint(missing / np.asarray(tensor.quantization.scale)), info.min, info.max)
    replace_values(model, tensor, corrected.astype(dtype))


def to_int8(scale: NDArray[np.float64]) -> Grid:
    """Round to whole steps of ``scale``, which has the shape of the values or spreads over it, -127 to 127 of them."""
    return lambda values: np.clip(np.rint(values / scale), -_LIMIT, _LIMIT) * scale


def to_float16(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Round to half precision."""
    return values.astype(np.float16).astype(np.float64)


def round_rows(weights: NDArray[np.float64], covariance: NDArray[np.float64], grid: Grid) -> NDArray[np.float64]:
    """Round each row of weights so that ``rounded @ x`` stays closest to ``weights @ x``, for many layers at once.

    Args:
        weights: [layers, outputs, inputs].
        covariance: [layers, inputs, inputs] of x.
        grid: Rounds one column of all layers, [layers, outputs].

    Returns:
        [layers, outputs, inputs], values of the grid.
    """
    width = weights.shape[2]
    variance = np.diagonal(covariance, axis1=1, axis2=2)
    damping = _DAMPING * variance.mean(axis=1) + 1e-12
    damped = covariance + np.eye(width) * damping[:, np.newaxis, np.newaxis]
    # The inputs that vary most come first, while there are others left to make good for them.
    order = np.argsort(-variance, axis=1, kind="stable")
    damped = np.take_along_axis(damped, order[:, :, np.newaxis], axis=1)
    damped = np.take_along_axis(damped, order[:, np.newaxis, :], axis=2)
    upper = np.linalg.cholesky(np.linalg.inv(damped)).swapaxes(1, 2)
    remaining = np.take_along_axis(weights, order[:, np.newaxis, :], axis=2)
    rounded = np.empty_like(remaining)
    for column in range(width):
        rounded[:, :, column] = grid(remaining[:, :, column])
        error = (remaining[:, :, column] - rounded[:, :, column]) / upper[:, column, column, np.newaxis]
        remaining[:, :, column:] -= error[:, :, np.newaxis] * upper[:, np.newaxis, column, column:]
    return np.take_along_axis(rounded, np.argsort(order, axis=1, kind="stable")[:, np.newaxis, :], axis=2)
