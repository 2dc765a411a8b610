"""Quantize the float32 TFLite model to each variant with ai-edge-quantizer.

A bias is stored in steps of input scale times weight scale. If all weights of an output are zero or nearly so (a dead
channel), that step is so small that the bias overflows 32 bits, and ai-edge-quantizer clips it or inverts its sign. The
64 bits that go with int16 activations hold it, but the runtime's kernel does not. A larger weight scale does not harm
such weights.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections import Counter
from collections.abc import Collection, Iterable
from copy import copy
from typing import Any

import numpy as np

from convert.quantize.calibration import Ranges
from convert.quantize.gptq import GptqRounder
from convert.quantize.graph import DEPTHWISE_CONV_2D, FloatGraph, own_bias, replace_values
from convert.quantize.tflite_finish import Head, cut_head, set_versions, use_uint8
from convert.tflite_model import pack_model, text, unpack_model

_INT8 = 9
_BIAS_TYPES = {2: np.dtype(np.int32), 4: np.dtype(np.int64)}
# Half of the range: the other half is for the products that are added to the bias.
_MOST_STEPS = 2**30
FEW_WEIGHTS = 1024


def prevent_bias_overflow(model: Any, graph: FloatGraph) -> None:
    """Enlarge the weight scales of a ``ModelT`` quantized from the graph until every integer bias fits, in place."""
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
        # Outputs are the last axis of depthwise weights and the first of others.
        along = enlarged if layer.kind == DEPTHWISE_CONV_2D else enlarged.reshape(-1, *[1] * (values.ndim - 1))
        _store(model, weights, np.clip(np.rint(values / along), -127, 127).astype(np.int8), enlarged)
        steps = input_scale * enlarged.astype(np.float64)
        _store(model, own_bias(model, operator), np.rint(exact / steps).astype(dtype), steps.astype(np.float32))


def _store(model: Any, tensor: Any, values: Any, scale: Any) -> None:
    replace_values(model, tensor, values)
    tensor.quantization = copy(tensor.quantization)
    tensor.quantization.scale = scale


class TfliteQuantizer:
    """Quantizer of one float32 model to its variants.

    In all methods, ``rounder`` rounds weights by calibration, or to nearest if None, and ``kept`` are the output names
    of operators that compute in float32.
    """

    def __init__(self, graph: FloatGraph) -> None:
        self._graph = graph
        self._head = cut_head(graph)
        pixels = graph.pixels()
        self._scaling = [graph.name(operator.outputs[0]) for operator in graph.operators[: pixels.operators]]

    def float16(self, rounder: GptqRounder | None) -> bytes:
        """Store weights as float16; runtimes widen them when the model is opened.

        Layers with few weights, mostly the first ones, keep float32: they would save little, and their errors pass
        through the whole network.
        """
        recipe = _Recipe()
        recipe.weights_only(16, algorithm_key="float_casting")
        recipe.keep_float(
            layer.output for layer in self._graph.layers() if self._graph.constant(layer.weights).size < FEW_WEIGHTS
        )
        return _finished(recipe.apply(self._graph.data), rounder)

    def dynamic(self, rounder: GptqRounder | None, *, old_runtime: bool = False, kept: Collection[str] = ()) -> bytes:
        """Quantize to dynamic range: int8 weights, activations quantized at run time by dense and convolution layers.

        The few weights of depthwise convolutions are widened when the model is opened, since that operator's kernel for
        dynamic range is slow. ``old_runtime`` avoids a scale per output of a dense layer, which runtimes before
        TensorFlow 2.17 lack.
        """
        recipe = _Recipe()
        recipe.dynamic(old_runtime=old_runtime)
        recipe.keep_float(kept)
        return _finished(recipe.apply(self._graph.data), rounder)

    def int16x8(self, ranges: Ranges, rounder: GptqRounder | None, *, kept: Collection[str] = ()) -> bytes:
        """Quantize to int8 weights and int16 activations; pixels are scaled in float32 before the first layer."""
        recipe = _Recipe()
        recipe.static(16, per_tensor=False)
        recipe.keep_float([*self._scaling, *kept])
        recipe.keep_ends(input_end=True, output_end=True)
        model = recipe.apply(self._graph.data, ranges)
        prevent_bias_overflow(model, self._graph)
        return _finished(model, rounder)

    def int8(
        self, ranges: Ranges, rounder: GptqRounder | None, *, per_tensor: bool = False, kept: Collection[str] = ()
    ) -> bytes:
        """Quantize to integers only: int8 weights and activations, uint8 input and output.

        ``per_tensor`` gives one scale per weight tensor instead of one per output channel, for old runtimes.
        """
        recipe = _Recipe()
        recipe.static(8, per_tensor=per_tensor)
        recipe.keep_float(kept)
        head = self._head
        has_float_start = head is not None and not self._first_consumers(head).isdisjoint(kept)
        if head is None or (has_float_start and rounder is None):
            # Without a corrected bias only the float32 scaling gives a float32 layer exact inputs.
            recipe.keep_float(self._scaling)
            recipe.keep_ends(input_end=True, output_end=False)
            model, shift = recipe.apply(self._graph.data, ranges), None
        else:
            model = recipe.apply(head.data, {**ranges, head.tensor: (head.low, head.high)})
            shift = dict.fromkeys(self._first_consumers(head), head.shift)
        prevent_bias_overflow(model, self._graph)
        return _finished(model, rounder, shift)

    def _first_consumers(self, head: Head) -> set[str]:
        return {
            self._graph.name(operator.outputs[0])
            for operator in self._graph.operators
            if any(index >= 0 and self._graph.name(index) == head.tensor for index in operator.inputs)
        }


def _finished(model: Any, rounder: GptqRounder | None, input_shift: dict[str, float] | None = None) -> bytes:
    if rounder:
        rounder.refine(model, input_shift)
    use_uint8(model)
    set_versions(model)
    return pack_model(model)


class _Recipe:
    """Recipe of ai-edge-quantizer; later rules take precedence."""

    def __init__(self) -> None:
        from ai_edge_quantizer import qtyping, recipe_manager

        self._manager = recipe_manager.RecipeManager()
        self._operators = qtyping.TFLOperationName
        self._granularity = qtyping.QuantGranularity

    def weights_only(self, bits: int, **choices: Any) -> None:
        self._manager.add_weight_only_config(".*", self._operators.ALL_SUPPORTED, num_bits=bits, **choices)

    def dynamic(self, *, old_runtime: bool) -> None:
        self._manager.add_dynamic_config(".*", self._operators.ALL_SUPPORTED, num_bits=8)
        if old_runtime:
            one_scale = self._granularity.TENSORWISE
            self._manager.add_dynamic_config(".*", self._operators.FULLY_CONNECTED, num_bits=8, granularity=one_scale)
        self._manager.add_weight_only_config(".*", self._operators.DEPTHWISE_CONV_2D, num_bits=8)

    def static(self, activation_bits: int, *, per_tensor: bool) -> None:
        granularity = self._granularity.TENSORWISE if per_tensor else self._granularity.CHANNELWISE
        bits = {"activation_num_bits": activation_bits, "weight_num_bits": 8}
        self._manager.add_static_config(".*", self._operators.ALL_SUPPORTED, weight_granularity=granularity, **bits)

    def keep_float(self, outputs: Iterable[str]) -> None:
        for name in outputs:
            pattern = f"^{re.escape(name)};?$"
            self._manager.add_quantization_config(pattern, self._operators.ALL_SUPPORTED, algorithm_key="no_quantize")

    def keep_ends(self, *, input_end: bool, output_end: bool) -> None:
        """Keep the type of the model's input or output."""
        ends = [self._operators.INPUT] * input_end + [self._operators.OUTPUT] * output_end
        for end in ends:
            self._manager.add_quantization_config(".*", end, algorithm_key="no_quantize")

    def apply(self, data: bytes, ranges: Ranges | None = None) -> Any:
        """Quantize a model to a ``ModelT``, without the tool's output and progress bars."""
        from ai_edge_quantizer import quantizer

        statistics = None
        if ranges is not None:
            ends = {name: np.array(pair, np.float32) for name, pair in ranges.items()}
            statistics = {name: {"min": pair[:1], "max": pair[1:]} for name, pair in ends.items()}
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            result = quantizer.Quantizer(data, self._manager.get_quantization_recipe()).quantize(statistics)
        return unpack_model(bytes(result.quantized_model))
