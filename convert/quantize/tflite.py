"""Every TFLite variant from one float32 model, by ai-edge-quantizer: no TensorFlow, a fraction of a second each."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Collection, Iterable
from typing import Any

import numpy as np

from convert.quantize.bias_room import make_room
from convert.quantize.calibration import Ranges
from convert.quantize.graph import FloatGraph
from convert.quantize.integer_io import Head, cut_head, use_uint8
from convert.quantize.op_versions import set_versions
from convert.quantize.rounding import Rounder
from convert.tflite_model import pack_model, unpack_model

_FEW_WEIGHTS = 1024


class Quantizer:
    """Makes the variants of one float32 model.

    Args:
        graph: The float32 model.
    """

    def __init__(self, graph: FloatGraph) -> None:
        self._graph = graph
        self._head = cut_head(graph)
        pixels = graph.pixels()
        self._scaling = [graph.name(operator.outputs[0]) for operator in graph.operators[: pixels.operators]]

    def float16(self, rounder: Rounder | None) -> bytes:
        """Weights as float16, widened when the model is opened.

        Layers of few weights, which are mostly the first ones, keep them as float32: they would save next to nothing,
        and what goes wrong there goes through the whole network.

        Args:
            rounder: For calibrated rounding; None rounds to nearest, here and below.
        """
        recipe = _Recipe()
        recipe.weights_only(16, algorithm_key="float_casting")
        recipe.keep_float(
            layer.output for layer in self._graph.layers() if self._graph.constant(layer.weights).size < _FEW_WEIGHTS
        )
        return _finished(recipe.apply(self._graph.data), rounder)

    def dynamic(self, rounder: Rounder | None, *, old_runtime: bool = False, kept: Collection[str] = ()) -> bytes:
        """Dynamic range: int8 weights, float32 activations that dense and convolution operators quantize as they run.

        The weights of depthwise convolutions, which are few, are widened when the model is opened, since that
        operator's own kernel for dynamic range is slow.

        Args:
            rounder: As above.
            old_runtime: Do without a scale per output of a dense layer, which runtimes before TensorFlow 2.17 lack.
            kept: Names of the outputs of operators that compute in float32.
        """
        recipe = _Recipe()
        recipe.dynamic(old_runtime=old_runtime)
        recipe.keep_float(kept)
        return _finished(recipe.apply(self._graph.data), rounder)

    def int16x8(self, ranges: Ranges, rounder: Rounder | None, *, kept: Collection[str] = ()) -> bytes:
        """int8 weights, int16 activations; pixels are scaled in float32 before the first layer."""
        recipe = _Recipe()
        recipe.static(16, per_tensor=False)
        recipe.keep_float([*self._scaling, *kept])
        recipe.keep_ends(input_end=True, output_end=True)
        model = recipe.apply(self._graph.data, ranges)
        make_room(model, self._graph)
        return _finished(model, rounder)

    def int8(
        self, ranges: Ranges, rounder: Rounder | None, *, per_tensor: bool = False, kept: Collection[str] = ()
    ) -> bytes:
        """Full-integer quantization: int8 weights and activations, uint8 input and output.

        Args:
            ranges: Of the activations.
            rounder: As above.
            per_tensor: One scale for all of a layer's weights instead of one per output channel, for old runtimes.
            kept: Names of the outputs of operators that stay in float32.
        """
        recipe = _Recipe()
        recipe.static(8, per_tensor=per_tensor)
        recipe.keep_float(kept)
        head = self._head
        has_float_start = head is not None and not self._first_consumers(head).isdisjoint(kept)
        if head is None or (has_float_start and rounder is None):
            # Without a corrected bias only the scaling itself gives a float32 layer exactly what it was trained on.
            recipe.keep_float(self._scaling)
            recipe.keep_ends(input_end=True, output_end=False)
            model = recipe.apply(self._graph.data, ranges)
            make_room(model, self._graph)
            return _finished(model, rounder)
        model = recipe.apply(head.data, {**ranges, head.tensor: (head.low, head.high)})
        make_room(model, self._graph)
        return _finished(model, rounder, dict.fromkeys(self._first_consumers(head), head.shift))

    def _first_consumers(self, head: Head) -> set[str]:
        return {
            self._graph.name(operator.outputs[0])
            for operator in self._graph.operators
            if any(index >= 0 and self._graph.name(index) == head.tensor for index in operator.inputs)
        }


def _finished(model: Any, rounder: Rounder | None, input_shift: dict[str, float] | None = None) -> bytes:
    if rounder:
        rounder.refine(model, input_shift)
    use_uint8(model)
    set_versions(model)
    return pack_model(model)


class _Recipe:
    """What ai-edge-quantizer does to which operators; what is added later goes first."""

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
        self._manager.add_static_config(
            ".*",
            self._operators.ALL_SUPPORTED,
            activation_num_bits=activation_bits,
            weight_num_bits=8,
            weight_granularity=self._granularity.TENSORWISE if per_tensor else self._granularity.CHANNELWISE,
        )

    def keep_float(self, outputs: Iterable[str]) -> None:
        for name in outputs:
            pattern = f"^{re.escape(name)};?$"
            self._manager.add_quantization_config(pattern, self._operators.ALL_SUPPORTED, algorithm_key="no_quantize")

    def keep_ends(self, *, input_end: bool, output_end: bool) -> None:
        """Leave the model's input or output in the type that it has."""
        ends = [self._operators.INPUT] * input_end + [self._operators.OUTPUT] * output_end
        for end in ends:
            self._manager.add_quantization_config(".*", end, algorithm_key="no_quantize")

    def apply(self, data: bytes, ranges: Ranges | None = None) -> Any:
        """The quantized ``ModelT``; the tool's talk and progress bars go nowhere."""
        from ai_edge_quantizer import quantizer

        statistics = None
        if ranges is not None:
            statistics = {
                name: {"min": np.array([low], np.float32), "max": np.array([high], np.float32)}
                for name, (low, high) in ranges.items()
            }
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            result = quantizer.Quantizer(data, self._manager.get_quantization_recipe()).quantize(statistics)
        return unpack_model(bytes(result.quantized_model))
