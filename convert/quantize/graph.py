"""Float32 TFLite model as a graph: operators with weights, input preprocessing, edits of constants."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convert.tflite_model import operator_name, text, unpack_model

CONV_2D = "CONV_2D"
DEPTHWISE_CONV_2D = "DEPTHWISE_CONV_2D"
FULLY_CONNECTED = "FULLY_CONNECTED"
_WEIGHTED = (CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED)
_SAME = 0


@dataclass(frozen=True)
class Layer:
    """Operator with constant weights.

    Attributes:
        kind: Name of the operator, such as ``CONV_2D``.
        output: Name of the output tensor, which identifies the layer.
        input_index: Index of the input tensor.
        weights: Name of the weight tensor: [out, h, w, in], [1, h, w, out] if depthwise, [out, in] if dense.
        bias: Name of the bias tensor, or None.
        strides: Strides over rows and columns; (1, 1) for a dense layer.
        dilations: Dilations over rows and columns.
        same_padding: True for SAME padding, False for VALID.
    """

    kind: str
    output: str
    input_index: int
    weights: str
    bias: str | None
    strides: tuple[int, int]
    dilations: tuple[int, int]
    same_padding: bool


@dataclass(frozen=True)
class Pixels:
    """Pixel scaling at the head of the graph: ``real = scale * pixel + offset``.

    Attributes:
        tensor: Name of the tensor that holds ``real``.
        operators: Number of operators at the head of the graph that scale.
        scale, offset: Factor and summand of the scaling.
    """

    tensor: str
    operators: int
    scale: float
    offset: float


class FloatGraph:
    """Float32 ``.tflite`` with uint8 input, as the export writes it.

    Attributes:
        data: Bytes of the file.
        model: ``ModelT`` object tree; do not modify.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.model = unpack_model(data)
        self._graph = self.model.subgraphs[0]

    def kind(self, operator: Any) -> str:
        """Builtin name of an operator."""
        return operator_name(self.model, operator)

    @property
    def operators(self) -> list[Any]:
        """Operators in execution order."""
        return list(self._graph.operators)

    def name(self, index: int) -> str:
        """Name of a tensor."""
        return text(self._graph.tensors[index].name)

    def activations(self) -> dict[str, int]:
        """Indices of the float tensors that an operator computes, by name."""
        outputs = [index for operator in self._graph.operators for index in operator.outputs]
        return {self.name(i): int(i) for i in outputs if self._graph.tensors[i].type == 0}

    def constant(self, name: str) -> NDArray[np.float32]:
        """Values of a float32 constant tensor."""
        tensor = next(tensor for tensor in self._graph.tensors if text(tensor.name) == name)
        data = bytes(self.model.buffers[tensor.buffer].data)
        return np.frombuffer(data, np.float32).reshape(tensor.shape)

    def layers(self) -> Iterator[Layer]:
        """Operators with constant weights, in execution order."""
        for operator in self._graph.operators:
            kind = self.kind(operator)
            if kind not in _WEIGHTED or not self._is_constant(operator.inputs[1]):
                continue
            options = operator.builtinOptions
            is_conv = kind != FULLY_CONNECTED
            has_bias = len(operator.inputs) > 2 and operator.inputs[2] >= 0
            yield Layer(
                kind=kind,
                output=self.name(operator.outputs[0]),
                input_index=int(operator.inputs[0]),
                weights=self.name(operator.inputs[1]),
                bias=self.name(operator.inputs[2]) if has_bias else None,
                strides=(options.strideH, options.strideW) if is_conv else (1, 1),
                dilations=(options.dilationHFactor, options.dilationWFactor) if is_conv else (1, 1),
                same_padding=is_conv and options.padding == _SAME,
            )

    def pixels(self) -> Pixels:
        """Fold the cast and the scalar multiplications and additions at the head of the graph."""
        scale, offset, count = 1.0, 0.0, 0
        current = int(self._graph.inputs[0])
        for operator in self._graph.operators:
            kind = self.kind(operator)
            if current not in operator.inputs or self._uses(current) != 1:
                break
            if kind == "CAST" and count == 0:
                pass
            elif kind in ("MUL", "ADD", "SUB") and count and (value := self._scalar(operator, current)) is not None:
                if kind == "MUL":
                    scale, offset = scale * value, offset * value
                else:
                    offset += value if kind == "ADD" else -value
            else:
                break
            current, count = int(operator.outputs[0]), count + 1
        return Pixels(self.name(current), count, scale, offset)

    def _uses(self, tensor: int) -> int:
        return sum(list(operator.inputs).count(tensor) for operator in self._graph.operators)

    def _is_constant(self, index: int) -> bool:
        data = self.model.buffers[self._graph.tensors[index].buffer].data
        return data is not None and len(data) > 0

    def _scalar(self, operator: Any, current: int) -> float | None:
        """Other operand, if it is a constant number (on the right of SUB) without a fused activation; else None."""
        other = next((int(index) for index in operator.inputs if index != current), current)
        if other == current or not self._is_constant(other) or operator.builtinOptions.fusedActivationFunction:
            return None
        if self.kind(operator) == "SUB" and operator.inputs[0] != current:
            return None
        values = self.constant(self.name(other)).ravel()
        return float(values[0]) if values.size and np.all(values == values[0]) else None


def replace_values(model: Any, tensor: Any, values: NDArray[Any]) -> None:
    """Replace the values of a ``ModelT``'s tensor; a buffer that other tensors share (equal constants) is kept."""
    from ai_edge_litert import schema_py_generated as schema

    if sum(other.buffer == tensor.buffer for other in model.subgraphs[0].tensors) > 1:
        model.buffers.append(schema.BufferT())
        tensor.buffer = len(model.buffers) - 1
    model.buffers[tensor.buffer].data = np.frombuffer(values.tobytes(), np.uint8)


def own_bias(model: Any, operator: Any) -> Any:
    """Return the bias tensor of an operator; one that other operators share (equal constants) is copied first."""
    graph = model.subgraphs[0]
    index = operator.inputs[2]
    tensor = graph.tensors[index]
    if sum(list(other.inputs).count(index) for other in graph.operators) == 1:
        return tensor
    tensor = copy.copy(tensor)
    tensor.name = f"{text(tensor.name)}_{len(graph.tensors)}"
    graph.tensors.append(tensor)
    operator.inputs = [*operator.inputs[:2], len(graph.tensors) - 1]
    return tensor
