"""GPTQ rounding of weights from the mean and covariance of each layer's input, with bias correction.

Nearest rounding treats each weight alone, so the errors of one output can add up. GPTQ rounds the weights of one output
one after the other and compensates each error in the weights that follow, using the covariance of the inputs over the
calibration images (Frantar et al. 2022, "GPTQ", after Hassibi and Stork 1993, "Optimal Brain Surgeon"). The remaining
mean error goes into the bias (Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias
Correction", section 4.2, with measured means).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from convert.quantize.calibration import open_interpreter, run_over
from convert.quantize.graph import DEPTHWISE_CONV_2D, FULLY_CONNECTED, FloatGraph, Layer, own_bias, replace_values
from convert.tflite_model import text

Grid: TypeAlias = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Function that rounds values to those that the file can hold, keeping their shape."""

# A wider layer's covariance takes too much memory and time; its bias is still corrected.
MAX_WIDTH = 3072
PLACES_PER_IMAGE = 64
_IMAGES_AT_A_TIME = 16
# Far above the rounding errors of sums in float64, far below any relevant variance.
_FLOOR = 1e-9
_LIMIT = 127
# Share of the mean variance that is added to every variance, so that the inverse exists; GPTQ's own value.
_DAMPING = 0.01
_FLOAT32, _FLOAT16, _INT8 = 0, 1, 9
_BIAS_TYPES: dict[int, np.dtype[Any]] = {0: np.dtype("f4"), 1: np.dtype("f2"), 2: np.dtype("i4"), 4: np.dtype("i8")}


@dataclass
class LayerInput:
    """Sums over places of a layer's input; a place is the receptive field of one output value.

    Attributes:
        total: float64 [inputs], or [channels, taps] for a depthwise layer.
        products: float64 [inputs, inputs], or [channels, taps, taps]; None for a layer wider than `MAX_WIDTH`.
        places: Number of places in the sums.
    """

    total: NDArray[np.float64]
    products: NDArray[np.float64] | None
    places: int

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean input, in the shape of ``total``."""
        return self.total / self.places

    @property
    def covariance(self) -> NDArray[np.float64] | None:
        """Covariance of the input, in the shape of ``products``."""
        if self.products is None:
            return None
        mean = self.mean
        squares = self.products / self.places
        # Inputs that hardly vary leave only rounding errors, which must not make a variance negative.
        floor = _FLOOR * np.diagonal(squares, axis1=-2, axis2=-1).mean(axis=-1)
        covariance = squares - mean[..., :, np.newaxis] * mean[..., np.newaxis, :]
        return np.asarray(covariance + floor[..., np.newaxis, np.newaxis] * np.eye(mean.shape[-1]))


def observe(graph: FloatGraph, images_nhwc_rgb_u8: NDArray[np.uint8], seed: int) -> dict[str, LayerInput]:
    """Run the float model over at least one image, uint8 [n, H, W, 3], and sum up the layers' inputs.

    The sums go by the name of the layer's output; the seed chooses the places.
    """
    rng = np.random.default_rng(seed)
    layers = list(graph.layers())
    shapes = {layer.weights: graph.constant(layer.weights).shape for layer in layers}
    interpreter = open_interpreter(graph.data, keep_tensors=True)
    sums: dict[str, LayerInput] = {}
    # In batches: the products of a batch are one matrix multiplication per layer.
    for first in range(0, len(images_nhwc_rgb_u8), _IMAGES_AT_A_TIME):
        rows: dict[str, list[NDArray[np.float32]]] = {layer.output: [] for layer in layers}
        for run in run_over(interpreter, images_nhwc_rgb_u8[first : first + _IMAGES_AT_A_TIME]):
            for layer in layers:
                value = run.get_tensor(layer.input_index)
                rows[layer.output].append(_places(value, layer, shapes[layer.weights], rng))
        for name, parts in rows.items():
            _add(sums, name, np.concatenate(parts).astype(np.float64))
    return sums


def _add(sums: dict[str, LayerInput], name: str, rows: NDArray[np.float64]) -> None:
    products = _products(rows) if rows.shape[-1] <= MAX_WIDTH else None
    previous = sums.get(name)
    if previous is None:
        sums[name] = LayerInput(rows.sum(axis=0), products, len(rows))
        return
    previous.total += rows.sum(axis=0)
    previous.places += len(rows)
    if previous.products is not None and products is not None:
        previous.products += products


def _products(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum the product of each pair of inputs over places."""
    if rows.ndim == 2:
        return np.asarray(rows.T @ rows)
    # A depthwise layer has few taps and many channels: pair by pair, all channels at once.
    by_tap = np.ascontiguousarray(rows.transpose(2, 0, 1))
    taps = len(by_tap)
    products = np.empty((rows.shape[1], taps, taps))
    for i in range(taps):
        for j in range(i + 1):
            products[:, i, j] = products[:, j, i] = np.einsum("pc,pc->c", by_tap[i], by_tap[j])
    return products


def _places(
    value: NDArray[np.float32], layer: Layer, shape: tuple[int, ...], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Sample a layer's input: [places, inputs] of one image, or [places, channels, taps] for a depthwise layer.

    Inputs are in the order of the weights: rows, columns, channels.
    """
    if layer.kind == FULLY_CONNECTED:
        return value.reshape(-1, shape[-1])
    height, width = shape[1:3]
    padded, out_h, out_w = _pad(value[0], layer, height, width)
    count = min(PLACES_PER_IMAGE, out_h * out_w)
    chosen = rng.choice(out_h * out_w, count, replace=False)
    rows = (chosen // out_w * layer.strides[0])[:, None, None] + np.arange(height)[:, None] * layer.dilations[0]
    columns = (chosen % out_w * layer.strides[1])[:, None, None] + np.arange(width)[None, :] * layer.dilations[1]
    patches = padded[rows, columns]  # [places, height, width, channels]
    if layer.kind == DEPTHWISE_CONV_2D:
        multiplier = shape[3] // patches.shape[3]
        taps = patches.reshape(count, height * width, -1).transpose(0, 2, 1)
        return np.repeat(taps, multiplier, axis=1)
    return patches.reshape(count, -1)


def _pad(value_hwc: NDArray[np.float32], layer: Layer, height: int, width: int) -> tuple[NDArray[np.float32], int, int]:
    """Pad an image by TensorFlow's rule for SAME and VALID; return it with the output's rows and columns."""
    spans = ((height - 1) * layer.dilations[0] + 1, (width - 1) * layer.dilations[1] + 1)
    pads, sides = [], []
    for side, span, stride in zip(value_hwc.shape[:2], spans, layer.strides, strict=True):
        if layer.same_padding:
            out = -(-side // stride)
            extra = max((out - 1) * stride + span - side, 0)
        else:
            out, extra = (side - span) // stride + 1, 0
        pads.append((extra // 2, extra - extra // 2))
        sides.append(out)
    return np.pad(value_hwc, (*pads, (0, 0))), sides[0], sides[1]


class GptqRounder:
    """Calibrated rounding for all models built from one float32 model, with the statistics that `observe` found."""

    def __init__(self, graph: FloatGraph, inputs: dict[str, LayerInput]) -> None:
        self._graph = graph
        self._inputs = inputs
        # Weights that several layers share cannot fit the inputs of each; they stay rounded to nearest.
        uses = Counter(layer.weights for layer in graph.layers())
        self._layers = [layer for layer in graph.layers() if layer.output in inputs and uses[layer.weights] == 1]
        # Every model that is tried rounds the same layer to the same values.
        self._known: dict[tuple[str, bytes], NDArray[np.float64]] = {}

    def refine(self, model: Any, input_shift: dict[str, float] | None = None) -> None:
        """Replace int8 and float16 weights of a quantized model by GPTQ-rounded ones and correct its biases, in place.

        Args:
            model: ``ModelT`` quantized from the float32 model with nearest rounding and the same tensor names. In
                layers with float32 weights only a shift of the input is corrected.
            input_shift: Known excess of the quantized input over the true one, by layer output.
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
            self._known[key] = _round_layer(layer, exact, weights, self._inputs[layer.output].covariance)
        return self._known[key]


def _rows(layer: Layer, weights: NDArray[np.float32]) -> NDArray[np.float64]:
    """Arrange weights as one row per output: [outputs, inputs]."""
    if layer.kind == DEPTHWISE_CONV_2D:
        return weights.reshape(-1, weights.shape[-1]).T.astype(np.float64)
    return weights.reshape(len(weights), -1).astype(np.float64)


def _scale(tensor: Any, outputs: int) -> NDArray[np.float64]:
    return np.broadcast_to(np.asarray(tensor.quantization.scale, np.float64), (outputs,))


def _round_layer(
    layer: Layer, rows: NDArray[np.float64], tensor: Any, covariance: NDArray[np.float64] | None
) -> NDArray[np.float64]:
    """Round the weights of a layer: real values, [outputs, inputs]."""
    # Each channel of a depthwise convolution is a separate layer with one output.
    axis = 0 if covariance is not None and layer.kind != DEPTHWISE_CONV_2D else 1
    grid = to_float16 if tensor.type == _FLOAT16 else to_int8(np.expand_dims(_scale(tensor, len(rows)), axis))
    if covariance is None:
        return grid(rows)
    covariances = covariance if axis == 1 else covariance[np.newaxis]
    return round_rows(np.expand_dims(rows, axis), covariances, grid).squeeze(axis)


def _stored(layer: Layer, rounded: NDArray[np.float64], tensor: Any) -> NDArray[Any]:
    """Convert rounded values to the file's numbers, in the order of the weight tensor."""
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
    """Make a grid of -127 to 127 steps of ``scale``, which has the shape of the values or broadcasts to it."""
    return lambda values: np.clip(np.rint(values / scale), -_LIMIT, _LIMIT) * scale


def to_float16(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Round to half precision."""
    return values.astype(np.float16).astype(np.float64)


def round_rows(weights: NDArray[np.float64], covariance: NDArray[np.float64], grid: Grid) -> NDArray[np.float64]:
    """Round each row of weights so that ``rounded @ x`` stays close to ``weights @ x``, for many layers at once.

    Args:
        weights: float64 [layers, outputs, inputs].
        covariance: float64 [layers, inputs, inputs] of x.
        grid: Rounding function for one column of all layers, [layers, outputs].

    Returns:
        float64 [layers, outputs, inputs], values of the grid.
    """
    width = weights.shape[2]
    variance = np.diagonal(covariance, axis1=1, axis2=2)
    damping = _DAMPING * variance.mean(axis=1) + 1e-12
    damped = covariance + np.eye(width) * damping[:, np.newaxis, np.newaxis]
    # The inputs that vary most come first, while others are left to compensate for them.
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
