"""Give biases room in 32 bits where the weights beside them are tiny.

A bias is stored in steps of input scale times weight scale. Where all weights of an output are zero or nearly so (a
channel that training or pruning has switched off), that step is so small that 32 bits do not reach the bias, and
ai-edge-quantizer cuts it off or even turns its sign. The 64 bits that go with int16 activations hold it, but the
runtime's kernel does not. A larger weight scale costs such weights nothing.
"""

from __future__ import annotations

from collections import Counter
from copy import copy
from typing import Any

import numpy as np

from convert.quantize.constants import own_bias, replace_values
from convert.quantize.graph import DEPTHWISE_CONV_2D, FloatGraph, text

_INT8 = 9
_BIAS_TYPES = {2: np.dtype(np.int32), 4: np.dtype(np.int64)}
# Half of the range: the other half is for the products that are added to the bias.
_MOST_STEPS = 2**30


def make_room(model: Any, graph: FloatGraph) -> None:
    """Enlarge weight scales until every integer bias fits, in place.

    Args:
        model: A ``ModelT`` made from the float32 model, with the same tensor names.
        graph: The float32 model.
    """
    subgraph = model.subgraphs[0]
    tensors = {text(tensor.name): tensor for tensor in subgraph.tensors}
    operators = {text(subgraph.tensors[operator.outputs[0]].name): operator for operator in subgraph.operators}
    uses = Counter(layer.weights for layer in graph.layers())
    for layer in graph.layers():
        weights, operator = tensors.get(layer.weights), operators[layer.output]
        if layer.bias is None or weights is None or weights.type != _INT8 or uses[layer.weights] > 1:
            continue
        dtype = _BIAS_TYPES.get(subgraph.tensors[operator.inputs[2]].type)
        if dtype is None:
            continue
        input_scale = float(subgraph.tensors[operator.inputs[0]].quantization.scale[0])
        exact, scale = graph.constant(layer.bias).astype(np.float64), np.asarray(weights.quantization.scale)
        least = np.abs(exact) / (input_scale * _MOST_STEPS)
        enlarged = np.maximum(scale, least if len(scale) > 1 else least.max()).astype(np.float32)
        if np.array_equal(enlarged, scale):
            continue
        values = graph.constant(layer.weights)
        # Outputs are the last side of depthwise weights and the first of others.
        along = enlarged if layer.kind == DEPTHWISE_CONV_2D else enlarged.reshape(-1, *[1] * (values.ndim - 1))
        _store(model, weights, np.clip(np.rint(values / along), -127, 127).astype(np.int8), enlarged)
        steps = input_scale * enlarged.astype(np.float64)
        _store(model, own_bias(model, operator), np.rint(exact / steps).astype(dtype), steps.astype(np.float32))


def _store(model: Any, tensor: Any, values: Any, scale: Any) -> None:
    replace_values(model, tensor, values)
    tensor.quantization = copy(tensor.quantization)
    tensor.quantization.scale = scale
