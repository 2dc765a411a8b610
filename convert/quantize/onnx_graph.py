"""The float32 ONNX model made ready for quantizing: batch normalization folded, and its layers with weights."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import EngineError

_ERRORS_ONLY = 3  # of ONNX Runtime's levels of logging
_STANDARD_DOMAINS = ("", "ai.onnx")


@dataclass(frozen=True)
class OnnxLayer:
    """A node with constant weights.

    Attributes:
        node: The ``NodeProto``, not to be changed.
        weights: float32 in the node's own layout.
        channel_axis: Axis of the output channels in ``weights``.
        bias: float32 [output channels]; None where the node has none.
    """

    node: Any
    weights: NDArray[np.float32]
    channel_axis: int
    bias: NDArray[np.float32] | None

    @property
    def name(self) -> str:
        """Name of the node."""
        return str(self.node.name)

    @property
    def input(self) -> str:
        """Name of the tensor that goes in."""
        return str(self.node.input[0])


def prepared_model(base_onnx: Path) -> Any:
    """Load a float32 model with batch normalization folded into its convolutions, named nodes and known shapes.

    Folding is ONNX Runtime's own basic optimization, which writes standard operators of the same opset.

    Raises:
        EngineError: ONNX Runtime cannot open the file.
    """
    import onnx

    with tempfile.TemporaryDirectory(prefix="edge-onnx-") as folder:
        folded = Path(folder) / "folded.onnx"
        open_session(str(base_onnx), save_folded_to=folded)
        model = onnx.load(str(folded))
    if any(node.domain not in _STANDARD_DOMAINS for node in model.graph.node):
        model = onnx.load(str(base_onnx))
    for index, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{index}"
    drop_unused(model)
    return onnx.shape_inference.infer_shapes(model)


def drop_unused(model: Any) -> None:
    """Remove constants that no node takes, and operator sets that no node comes from; tools leave both behind."""
    taken = {name for node in model.graph.node for name in node.input}
    constants = [constant for constant in model.graph.initializer if constant.name in taken]
    del model.graph.initializer[:]
    model.graph.initializer.extend(constants)
    domains = {node.domain for node in model.graph.node} | {""}
    imports = [entry for entry in model.opset_import if entry.domain in domains]
    del model.opset_import[:]
    model.opset_import.extend(imports)


def open_session(model: str | bytes, save_folded_to: Path | None = None) -> Any:
    """An ONNX Runtime session on the CPU that prints nothing.

    Args:
        model: A file's name, or a serialized model.
        save_folded_to: Where to write the model after basic optimization; None opens it fully optimized.

    Raises:
        EngineError: ONNX Runtime cannot open the model.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    if save_folded_to is not None:
        options.optimized_model_filepath = str(save_folded_to)
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    state = onnxruntime.capi.onnxruntime_pybind11_state
    refusals = (state.Fail, state.InvalidGraph, state.InvalidProtobuf, state.NoSuchFile, state.NotImplemented)
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except refusals as error:
        reason = " ".join(str(error).split())
        raise EngineError(f"ONNX Runtime {onnxruntime.__version__} cannot open the float32 model ({reason})") from error


def layers(model: Any) -> Iterator[OnnxLayer]:
    """Convolutions and dense layers with float32 weights of their own, in the order in which they run."""
    import onnx

    constants = {
        entry.name: onnx.numpy_helper.to_array(entry)
        for entry in model.graph.initializer
        if entry.data_type == onnx.TensorProto.FLOAT
    }
    taken = [name for node in model.graph.node for name in node.input]
    for node in model.graph.node:
        axis = _channel_axis(node)
        if axis is None or taken.count(node.input[1]) != 1 or node.input[1] not in constants:
            continue
        weights = constants[node.input[1]]
        bias = constants.get(node.input[2]) if len(node.input) > 2 else None
        is_usual = weights.ndim == 2 or node.op_type == "Conv"
        if is_usual and (bias is None or bias.shape == (weights.shape[axis],)):
            yield OnnxLayer(node, weights, axis, bias)


def _channel_axis(node: Any) -> int | None:
    """Axis of the output channels in a node's weights; None where it is not a plain layer."""
    import onnx

    given = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    if node.op_type == "Conv":
        return 0
    if node.op_type == "MatMul":
        return 1
    if node.op_type == "Gemm" and given.get("alpha", 1.0) == given.get("beta", 1.0) == 1.0 and not given.get("transA"):
        return 0 if given.get("transB") else 1
    return None
