"""What the float32 ONNX model's tensors do over the calibration pictures: the range of each, and the mean of some."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convert.quantize.calibration import BINS, Ranges, least_error_range, moving_average, percentile_range
from convert.quantize.methods import CalibrationMethod
from convert.quantize.onnx_graph import open_session


@dataclass(frozen=True)
class Statistics:
    """What one or two runs over the pictures gave.

    Attributes:
        ranges: Of each float tensor: the values that it shall hold without being cut off; zero is among them.
        means: Of the tensors that were asked for: the mean over all pictures, float32 [1, ...].
    """

    ranges: Ranges
    means: dict[str, NDArray[np.float32]]


def observe(
    model: Any, images_nhwc_rgb_u8: NDArray[np.uint8], mean_of: Sequence[str], method: CalibrationMethod
) -> Statistics:
    """Run the model over the pictures, one at a time, so that memory does not grow with their number.

    ONNX Runtime's own calibrators for histograms keep every output of every picture until the end; hence this one.
    A percentile and the mean squared error take a second run over the pictures.

    Args:
        model: A float32 ``ModelProto`` with inferred shapes.
        images_nhwc_rgb_u8: Calibration pictures, [n, H, W, 3], n at least 1.
        mean_of: Names of the tensors whose mean is wanted.
        method: How a range follows from the values.
    """
    names = _float_tensors(model)
    session = _session_with_outputs(model, names)
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
    return Statistics(ranges, means)


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


def _float_tensors(model: Any) -> list[str]:
    """Names of the float32 tensors that nodes compute."""
    import onnx

    infos = [*model.graph.value_info, *model.graph.output]
    floats = {info.name for info in infos if info.type.tensor_type.elem_type == onnx.TensorProto.FLOAT}
    return [name for node in model.graph.node for name in node.output if name in floats]


def _session_with_outputs(model: Any, names: Sequence[str]) -> Any:
    import onnx

    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    known = {info.name: info for info in model.graph.value_info}
    watched.graph.output.extend(known[name] for name in names if name in known)
    return open_session(watched.SerializeToString())


def _runs(
    session: Any, images_nhwc_rgb_u8: NDArray[np.uint8], names: Sequence[str]
) -> Iterator[dict[str, NDArray[np.float32]]]:
    name_of_input = session.get_inputs()[0].name
    for image in images_nhwc_rgb_u8:
        yield dict(zip(names, session.run(list(names), {name_of_input: image[np.newaxis]}), strict=True))
