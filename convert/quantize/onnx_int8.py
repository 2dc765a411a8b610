"""Quantize a float32 ``.onnx`` to int8 in QDQ form with ONNX Runtime, and correct its biases.

The settings were chosen by accuracy and latency of MobileNetV2 0.35 at 160 pixels on x86-64 with VNNI in ONNX Runtime
1.31 (divergence: Kullback-Leibler from float32, over the validation split of the flower photos):

- Activations uint8: with int8 activations the same model takes 1.4 times as long.
- Weights uint8 too, around a zero point of 128, so that all machines compute the same. On x86 without VNNI the product
  of uint8 and int8 saturates in 16 bits: on cats and dogs MobileNetV2 0.35 lost 2.0 points there with int8 weights and
  1.0 with uint8 weights, which take 1.3 times as long on such a processor. With 7 bits (``reduce_range``) nothing
  saturates either, but the divergence grows from 0.006 to 0.016.
- A scale for each output channel, and all 8 bits.
- The nodes before the first layer, which scale pixels, and the last softmax or sigmoid stay float32.
- Biases are corrected, which reduces the divergence from 0.056 to 0.006 without cost at run time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convert.options import CalibrationMethod
from convert.quantize.calibration import BINS, Ranges, least_error_range, moving_average, percentile_range
from edge_runtime.errors import EngineError
from edge_runtime.platform.atomic import temporary_folder

_ERRORS_ONLY = 3  # level of ONNX Runtime's log
_STANDARD_DOMAINS = ("", "ai.onnx")
_WEIGHT_LIMIT = 127
_WEIGHT_ZERO = 128
_ACTIVATION_STEPS = 255
_LARGEST_BIAS = 2**30
_PROBABILITY_TYPES = ("Softmax", "Sigmoid")


@dataclass(frozen=True)
class OnnxLayer:
    """Node with constant weights.

    Attributes:
        node: ``NodeProto`` of the model; do not modify.
        weights: float32 in the node's own layout.
        channel_axis: Axis of the output channels in ``weights``.
        bias: float32 [output channels], or None without bias.
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
        """Name of the input tensor."""
        return str(self.node.input[0])


def prepared_model(base_onnx: Path) -> Any:
    """Load a float32 model with batch normalization folded into its convolutions, named nodes and known shapes.

    ONNX Runtime's basic optimization folds it, and writes standard operators of the same opset.

    Raises:
        EngineError: ONNX Runtime cannot open the file.
    """
    import onnx

    with temporary_folder("onnx") as folder:
        folded = folder / "folded.onnx"
        open_session(str(base_onnx), save_folded_to=folded)
        model = onnx.load(str(folded))
    if any(node.domain not in _STANDARD_DOMAINS for node in model.graph.node):
        model = onnx.load(str(base_onnx))
    for index, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{index}"
    drop_unused(model)
    return onnx.shape_inference.infer_shapes(model)


def drop_unused(model: Any) -> None:
    """Remove unused constants and operator sets, which tools leave behind."""
    taken = {name for node in model.graph.node for name in node.input}
    constants = [constant for constant in model.graph.initializer if constant.name in taken]
    del model.graph.initializer[:]
    model.graph.initializer.extend(constants)
    domains = {node.domain for node in model.graph.node} | {""}
    imports = [entry for entry in model.opset_import if entry.domain in domains]
    del model.opset_import[:]
    model.opset_import.extend(imports)


def open_session(model: str | bytes, save_folded_to: Path | None = None) -> Any:
    """Open an ONNX Runtime session on the CPU that prints nothing, for a file name or a serialized model.

    With ``save_folded_to``, the model is optimized only basically and then saved there.

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
    """Find the convolutions and dense layers with unshared float32 weights, in execution order."""
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
    """Axis of the output channels in a node's weights; None for other nodes than plain layers."""
    import onnx

    given = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    if node.op_type == "Conv":
        return 0
    if node.op_type == "MatMul":
        return 1
    if node.op_type == "Gemm" and given.get("alpha", 1.0) == given.get("beta", 1.0) == 1.0 and not given.get("transA"):
        return 0 if given.get("transB") else 1
    return None


def observe(
    model: Any, images_nhwc_rgb_u8: NDArray[np.uint8], mean_of: Sequence[str], method: CalibrationMethod
) -> tuple[Ranges, dict[str, NDArray[np.float32]]]:
    """Run the model over the images and collect statistics, in memory independent of their number.

    ONNX Runtime's own histogram calibrators keep every output of every image until the end.
    A percentile and the mean squared error take a second run over the images. The model is a float32 ``ModelProto``
    with inferred shapes.

    Returns:
        Range of each float tensor, zero included, and the mean of each tensor of ``mean_of``, float32 [1, ...].
    """
    import onnx

    infos = [*model.graph.value_info, *model.graph.output]
    floats = {info.name for info in infos if info.type.tensor_type.elem_type == onnx.TensorProto.FLOAT}
    names = [name for node in model.graph.node for name in node.output if name in floats]
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    watched.graph.output.extend(info for info in model.graph.value_info if info.name in names)
    session = open_session(watched.SerializeToString())
    lows, highs = [], []
    sums = {name: np.float64(0.0) for name in mean_of}
    for values in _runs(session, images_nhwc_rgb_u8, names):
        lows.append([values[name].min() for name in names])
        highs.append([values[name].max() for name in names])
        sums = {name: total + values[name] for name, total in sums.items()}
    means = {name: (total / len(images_nhwc_rgb_u8)).astype(np.float32) for name, total in sums.items()}
    low, high = np.array(lows), np.array(highs)
    if method is CalibrationMethod.MOVING_AVERAGE:
        low, high = moving_average(low), moving_average(high)
    else:
        low, high = low.min(axis=0), high.max(axis=0)
    pairs = zip(low, high, strict=True)
    ranges = {name: (min(0.0, float(a)), max(0.0, float(b))) for name, (a, b) in zip(names, pairs, strict=True)}
    if method is CalibrationMethod.PERCENTILE:
        ranges = _narrowed(session, images_nhwc_rgb_u8, ranges, percentile_range)
    elif method is CalibrationMethod.MSE:
        ranges = _narrowed(session, images_nhwc_rgb_u8, ranges, least_error_range)
    return ranges, means


def _narrowed(
    session: Any,
    images_nhwc_rgb_u8: NDArray[np.uint8],
    ranges: Ranges,
    narrow: Callable[[NDArray[np.int64], float, float], tuple[float, float]],
) -> Ranges:
    names = [name for name, (low, high) in ranges.items() if high > low]
    counts = {name: np.zeros(BINS, np.int64) for name in names}
    for values in _runs(session, images_nhwc_rgb_u8, names):
        for name in names:
            low, high = ranges[name]
            bins = ((values[name].ravel() - low) * (BINS / (high - low))).astype(np.int32)
            counts[name] += np.bincount(np.minimum(bins, BINS - 1), minlength=BINS)
    return ranges | {name: narrow(counts[name], *ranges[name]) for name in names}


def _runs(
    session: Any, images_nhwc_rgb_u8: NDArray[np.uint8], names: Sequence[str]
) -> Iterator[dict[str, NDArray[np.float32]]]:
    name_of_input = session.get_inputs()[0].name
    for image in images_nhwc_rgb_u8:
        yield dict(zip(names, session.run(list(names), {name_of_input: image[np.newaxis]}), strict=True))


def quantize_onnx(
    base_onnx: Path,
    representative_nhwc_rgb_u8: NDArray[np.uint8],
    destination: Path,
    *,
    method: CalibrationMethod = CalibrationMethod.MIN_MAX,
    correct_bias: bool = True,
) -> None:
    """Quantize a float32 model to int8; input, output, dynamic batch and opset stay the same.

    The same images give the same bytes.

    Args:
        base_onnx: Model from uint8 [batch, H, W, 3] to float32 [batch, labels].
        representative_nhwc_rgb_u8: Calibration images, uint8 [n, H, W, 3], n at least 1.
        destination: Path of the ``.onnx`` file to write.
        method: Method that derives activation ranges.
        correct_bias: True to add the mean error of rounding the weights to each bias.

    Raises:
        EngineError: ONNX Runtime cannot open the float32 model.
    """
    import onnx

    model = prepared_model(base_onnx)
    found = list(layers(model))
    ranges, means = observe(model, representative_nhwc_rgb_u8, [layer.input for layer in found], method)
    scales = {layer.name: weight_scales(layer, ranges) for layer in found}
    errors = {layer.name: layer.weights - rounded_weights(layer, scales[layer.name]) for layer in found}
    if correct_bias and found:
        _add_to_biases(model, found, _mean_outputs(found, errors, means))
    quantized = _with_qdq(model, found, scales, ranges)
    onnx.checker.check_model(quantized, full_check=True)
    onnx.save(quantized, str(destination))


def weight_scales(layer: OnnxLayer, ranges: Ranges) -> NDArray[np.float64]:
    """Compute the scale of each output channel's weights, [channels].

    The largest weight becomes 127, unless the bias, whose scale is the product of the input's and the weights', would
    then not fit into 32 bits, as in channels whose weights are nearly zero.
    """
    others = tuple(axis for axis in range(layer.weights.ndim) if axis != layer.channel_axis)
    scales = np.abs(layer.weights).max(axis=others).astype(np.float64) / _WEIGHT_LIMIT
    if layer.bias is not None and layer.input in ranges:
        low, high = ranges[layer.input]
        step = max(high - low, float(np.finfo(np.float32).tiny)) / _ACTIVATION_STEPS
        scales = np.maximum(scales, np.abs(layer.bias) / (step * _LARGEST_BIAS))
    # Through float32, the type in the file; a channel of zeros may have any scale.
    return np.where(scales > 0, scales, 1.0).astype(np.float32).astype(np.float64)


def rounded_weights(layer: OnnxLayer, scales: NDArray[np.float64]) -> NDArray[np.float32]:
    """Round weights to the values that the quantized file represents, in the layout of the layer."""
    shape = [1] * layer.weights.ndim
    shape[layer.channel_axis] = -1
    steps = scales.reshape(shape)
    return (np.clip(np.rint(layer.weights / steps), -_WEIGHT_LIMIT, _WEIGHT_LIMIT) * steps).astype(np.float32)


def _mean_outputs(
    found: list[OnnxLayer], weights: Mapping[str, NDArray[np.float32]], means: Mapping[str, NDArray[np.float32]]
) -> dict[str, NDArray[np.float64]]:
    """Compute the mean of each layer's output, [channels], with other weights and no bias.

    A layer is linear, so this is its output for the mean of its inputs. For the errors of the weights, it is the
    correction of the bias (Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction",
    section 4.2, with measured means).
    """
    import onnx

    nodes, constants, outputs = [], [], []
    for index, layer in enumerate(found):
        node = onnx.NodeProto()
        node.CopyFrom(layer.node)
        node.input[:], node.output[:] = [f"x{index}", f"w{index}"], [f"y{index}"]
        nodes.append(node)
        constants.append(onnx.numpy_helper.from_array(means[layer.input], f"x{index}"))
        constants.append(onnx.numpy_helper.from_array(weights[layer.name], f"w{index}"))
        outputs.append(onnx.helper.make_tensor_value_info(f"y{index}", onnx.TensorProto.FLOAT, None))
    graph = onnx.helper.make_graph(nodes, "layers", [], outputs, constants)
    # Convolutions, Gemm without bias and MatMul are unchanged since opset 13.
    model = onnx.helper.make_model(graph, ir_version=8, opset_imports=[onnx.helper.make_opsetid("", 18)])
    results = open_session(model.SerializeToString()).run(None, {})
    missing = {}
    for layer, result in zip(found, results, strict=True):
        channels = 1 if layer.node.op_type == "Conv" else result.ndim - 1
        places = tuple(axis for axis in range(result.ndim) if axis != channels)
        missing[layer.name] = result.mean(axis=places, dtype=np.float64)
    return missing


def _add_to_biases(model: Any, found: list[OnnxLayer], missing: Mapping[str, NDArray[np.float64]]) -> None:
    """Add the corrections to the layers' biases; create a missing bias, except for MatMul, which has none."""
    import onnx

    nodes = {node.name: node for node in model.graph.node}
    for index, layer in enumerate(found):
        if layer.node.op_type == "MatMul":
            continue
        bias = missing[layer.name] + (0.0 if layer.bias is None else layer.bias)
        name = f"corrected_bias_{index}"
        nodes[layer.name].input[:] = [*layer.node.input[:2], name]
        model.graph.initializer.append(onnx.numpy_helper.from_array(bias.astype(np.float32), name))


def _with_qdq(model: Any, found: list[OnnxLayer], scales: Mapping[str, NDArray[np.float64]], ranges: Ranges) -> Any:
    """Insert pairs of QuantizeLinear and DequantizeLinear around the nodes that run in integers."""
    from onnxruntime.quantization import QDQQuantizer, QuantType
    from onnxruntime.quantization.calibrate import CalibrationMethod as AnyMethod
    from onnxruntime.quantization.calibrate import TensorData, TensorsData
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    common = {"quant_type": QuantType.QUInt8, "zero_point": _WEIGHT_ZERO}
    of_weights = {
        layer.node.input[1]: [
            {**common, "axis": layer.channel_axis, "scale": float(scale)} for scale in scales[layer.name]
        ]
        for layer in found
    }
    nodes = list(model.graph.node)
    names = [node.name for node in nodes]
    output = model.graph.output[0].name
    # The nodes before the first layer, and the last softmax or sigmoid.
    kept = names[: names.index(found[0].name)] if found else names
    kept += [node.name for node in nodes if node.op_type in _PROBABILITY_TYPES and output in node.output]
    known = {name: TensorData(lowest=np.float32(a), highest=np.float32(b)) for name, (a, b) in ranges.items()}
    quantizer = QDQQuantizer(
        model,
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QUInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=TensorsData(AnyMethod.MinMax, known),
        nodes_to_quantize=[],
        nodes_to_exclude=kept,
        op_types_to_quantize=sorted({*QDQRegistry, *QLinearOpsRegistry}),
        # weight_scales already makes the biases fit.
        extra_options={"TensorQuantOverrides": of_weights, "QDQDisableWeightAdjustForInt32Bias": True},
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    drop_unused(quantizer.model.model)
    return quantizer.model.model
