"""Changing constant tensors of a quantized model without changing them for others that share them."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convert.quantize.graph import text


def replace_values(model: Any, tensor: Any, values: NDArray[Any]) -> None:
    """Give a tensor of a ``ModelT`` other values; a buffer that it shares with others (equal constants) stays."""
    from ai_edge_litert import schema_py_generated as schema

    if sum(other.buffer == tensor.buffer for other in model.subgraphs[0].tensors) > 1:
        model.buffers.append(schema.BufferT())
        tensor.buffer = len(model.buffers) - 1
    model.buffers[tensor.buffer].data = np.frombuffer(values.tobytes(), np.uint8)


def own_bias(model: Any, operator: Any) -> Any:
    """The bias tensor of an operator; one that it shares with others (equal constants) is copied first."""
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
