"""Mean and covariance of what goes into each layer, over places in the calibration pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convert.quantize.graph import DEPTHWISE_CONV_2D, FULLY_CONNECTED, FloatGraph, Layer
from convert.quantize.interpreting import open_interpreter, run_over

_PLACES_PER_PICTURE = 64
_PICTURES_AT_A_TIME = 16
# A wider layer's covariance would cost more memory and time than it brings; its bias is still corrected.
MAX_WIDTH = 3072
# Far above the rounding errors of sums in float64, far below any variance that matters.
_FLOOR = 1e-9


@dataclass
class LayerInput:
    """Sums over places, where a place is what one output value of a layer sees.

    Attributes:
        total: float64 [inputs], or [channels, taps] for a depthwise layer.
        products: float64 [inputs, inputs], or [channels, taps, taps]; None for a layer wider than `MAX_WIDTH`.
        places: How many places.
    """

    total: NDArray[np.float64]
    products: NDArray[np.float64] | None
    places: int

    @property
    def mean(self) -> NDArray[np.float64]:
        """Of ``total``'s shape."""
        return self.total / self.places

    @property
    def covariance(self) -> NDArray[np.float64] | None:
        """Of ``products``' shape."""
        if self.products is None:
            return None
        mean = self.mean
        squares = self.products / self.places
        # Inputs that hardly vary leave nothing but rounding errors, which must not make a variance negative.
        floor = _FLOOR * np.diagonal(squares, axis1=-2, axis2=-1).mean(axis=-1)
        covariance = squares - mean[..., :, np.newaxis] * mean[..., np.newaxis, :]
        return np.asarray(covariance + floor[..., np.newaxis, np.newaxis] * np.eye(mean.shape[-1]))


def observe(graph: FloatGraph, images_nhwc_rgb_u8: NDArray[np.uint8], seed: int) -> dict[str, LayerInput]:
    """Run the float model over the pictures and sum up each layer's input.

    Args:
        graph: The float32 model.
        images_nhwc_rgb_u8: uint8 [n, H, W, 3].
        seed: Of the choice of places.

    Returns:
        By the name of the layer's output.
    """
    rng = np.random.default_rng(seed)
    layers = list(graph.layers())
    shapes = {layer.weights: graph.constant(layer.weights).shape for layer in layers}
    interpreter = open_interpreter(graph.data, keep_tensors=True)
    sums: dict[str, LayerInput] = {}
    # Some pictures at a time: their products are one multiplication of matrices a layer.
    for first in range(0, len(images_nhwc_rgb_u8), _PICTURES_AT_A_TIME):
        rows: dict[str, list[NDArray[np.float32]]] = {layer.output: [] for layer in layers}
        for run in run_over(interpreter, images_nhwc_rgb_u8[first : first + _PICTURES_AT_A_TIME]):
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
    """Sum over places of each input times each other."""
    if rows.ndim == 2:
        return np.asarray(rows.T @ rows)
    # A depthwise layer has few taps and many channels: pair by pair, over all channels at once.
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
    """[places, inputs] of one picture, or [places, channels, taps] for a depthwise layer.

    The order of the inputs is that of the weights: rows, columns, channels.
    """
    if layer.kind == FULLY_CONNECTED:
        return value.reshape(-1, shape[-1])
    height, width = shape[1:3]
    padded, out_h, out_w = _pad(value[0], layer, height, width)
    count = min(_PLACES_PER_PICTURE, out_h * out_w)
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
    """The padded picture and the rows and columns of the output, by TensorFlow's rule for SAME and VALID."""
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
