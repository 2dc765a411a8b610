"""What the Edge TPU compiler maps, operator by operator.

Source: "TensorFlow models on the Edge TPU", sections Model requirements and Supported operations
(coral.ai/docs/edgetpu/models-intro), for compiler 16 and Edge TPU runtime 14, both the last. The compiler's source is
not public, so this is a forecast: where the page says that an operation "might not be mapped", it is taken to map. The
runtime that each operation needs is the page's word too; nothing of it was checked on a device.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from convert.lint.operators import OperatorFacts

SOFTMAX_ELEMENTS: Final = 16_000
_OLDEST_RUNTIME: Final = 10  # the oldest that the page speaks of; it says "all"


@dataclass(frozen=True)
class Problem:
    """Why an operator is not mapped.

    Attributes:
        why: The reason.
        remedy: What a person can do.
    """

    why: str
    remedy: str


Limit = Callable[[OperatorFacts], Problem | None]


@dataclass(frozen=True)
class Rule:
    """A supported operator.

    Attributes:
        runtime: Lowest Edge TPU runtime.
        limits: What else must hold.
    """

    runtime: int = _OLDEST_RUNTIME
    limits: tuple[Limit, ...] = ()


def _no_fused_activation(operator: OperatorFacts) -> Problem | None:
    if operator.option("fusedActivationFunction") == 0:
        return None
    return Problem("has a fused activation", "put the activation before this layer")


def _same_dilation(operator: OperatorFacts) -> Problem | None:
    width, height = operator.option("dilationWFactor", 1), operator.option("dilationHFactor", 1)
    if width == height:
        return None
    return Problem(f"dilation differs, {height} by {width}", "use the same dilation in both directions")


def _constant_weights(operator: OperatorFacts) -> Problem | None:
    if all(tensor.is_constant for _, tensor in operator.inputs[1:]):
        return None
    return Problem("weights are computed while the model runs", "make weights and biases constants")


def _default_weights_format(operator: OperatorFacts) -> Problem | None:
    if operator.option("weightsFormat") == 0:
        return None
    return Problem("weights are stored shuffled", "convert with the default weights format")


def _flat_output(operator: OperatorFacts) -> Problem | None:
    if all(side == 1 for side in operator.outputs[0][1].shape[:-1]):
        return None
    return Problem("output has more than one dimension", "flatten before the dense layer, or use a 1x1 convolution")


def _small_softmax(operator: OperatorFacts) -> Problem | None:
    shape = operator.outputs[0][1].shape
    if any(side != 1 for side in shape[:-1]):
        return Problem("works on more than one dimension", "take the softmax of one vector, or take it on the CPU")
    if shape and shape[-1] > SOFTMAX_ELEMENTS:
        return Problem(
            f"has {shape[-1]} elements, at most {SOFTMAX_ELEMENTS} are mapped", "leave softmax out and take the largest"
        )
    return None


def _not_along_batch(position: int) -> Limit:
    """The axes, a constant input, leave the first dimension alone."""

    def limit(operator: OperatorFacts) -> Problem | None:
        axes = operator.input(position)
        data = operator.inputs[1 - position][1] if len(operator.inputs) > 1 else None
        if axes is None or axes.integers is None or data is None:
            return Problem("axes are not constants", "give the axes as constants")
        rank = len(data.shape)
        if rank > 1 and any(axis % rank == 0 for axis in axes.integers):
            return Problem("works along the batch", "leave the batch dimension alone")
        return None

    return limit


def _depth_multiple_of_four(operator: OperatorFacts) -> Problem | None:
    data, axes = operator.input(0), operator.input(1)
    if data is None or axes is None or axes.integers is None or not data.shape:
        return None  # said by _not_along_batch
    rank = len(data.shape)
    if rank - 1 in {axis % rank for axis in axes.integers} and data.shape[-1] % 4:
        return Problem(f"averages {data.shape[-1]} channels", "use a multiple of 4 channels")
    return None


def _no_batch_padding(operator: OperatorFacts) -> Problem | None:
    data, paddings = operator.input(0), operator.input(1)
    if data is None or paddings is None or paddings.integers is None:
        return Problem("paddings are not constants", "give the paddings as constants")
    if len(data.shape) == 4 and any(paddings.integers[:2]):
        return Problem("pads the batch", "pad rows, columns and channels only")
    return None


def _no_batch_packing(operator: OperatorFacts) -> Problem | None:
    if operator.option("axis") != 0:
        return None
    return Problem("packs along the batch", "pack along another axis")


def _zero_constants(operator: OperatorFacts) -> Problem | None:
    constants = [tensor for _, tensor in operator.inputs if tensor.is_constant]
    if not constants or (len(operator.inputs) == 2 and all(tensor.all_zero for tensor in constants)):
        return None
    return Problem("joins a constant other than zeros", "use padding, or add the constant")


def _last_axis_alpha(operator: OperatorFacts) -> Problem | None:
    alpha = operator.input(1)
    if alpha is not None and all(side == 1 for side in alpha.shape[:-1]):
        return None
    return Problem("alpha has more than one dimension", "share alpha over rows and columns: PReLU(shared_axes=[1, 2])")


def _unit_strides(operator: OperatorFacts) -> Problem | None:
    strides = operator.input(3)
    if strides is None or strides.integers is None or any(stride != 1 for stride in strides.integers):
        return Problem("takes every nth element", "use strides of 1, or a pooling or convolution with stride")
    if operator.option("ellipsisMask") or operator.option("newAxisMask"):
        return Problem("has an ellipsis or a new axis", "slice every axis by name, and reshape afterwards")
    return None


_BATCH_FREE: Final = _not_along_batch(1)
_WEIGHTS: Final = (_constant_weights, _same_dilation)
RULES: Final = MappingProxyType(
    {
        "ADD": Rule(),
        "AVERAGE_POOL_2D": Rule(limits=(_no_fused_activation,)),
        "CONCATENATION": Rule(limits=(_no_fused_activation, _zero_constants)),
        "CONV_2D": Rule(limits=_WEIGHTS),
        "DEPTHWISE_CONV_2D": Rule(limits=_WEIGHTS),
        "EXPAND_DIMS": Rule(13),
        "FULLY_CONNECTED": Rule(limits=(_constant_weights, _default_weights_format, _flat_output)),
        "L2_NORMALIZATION": Rule(),
        "LOGISTIC": Rule(),
        "MAXIMUM": Rule(),
        "MAX_POOL_2D": Rule(limits=(_no_fused_activation,)),
        "MEAN": Rule(limits=(_BATCH_FREE, _depth_multiple_of_four)),
        "MINIMUM": Rule(),
        "MUL": Rule(),
        "PACK": Rule(13, (_no_batch_packing,)),
        "PAD": Rule(limits=(_no_batch_padding,)),
        "PRELU": Rule(13, (_last_axis_alpha,)),
        "QUANTIZE": Rule(13),
        "REDUCE_MAX": Rule(14, (_BATCH_FREE,)),
        "REDUCE_MIN": Rule(14, (_BATCH_FREE,)),
        "RELU": Rule(),
        "RELU6": Rule(),
        "RELU_N1_TO_1": Rule(),
        "RESHAPE": Rule(),
        "RESIZE_BILINEAR": Rule(),
        "RESIZE_NEAREST_NEIGHBOR": Rule(),
        "RSQRT": Rule(14),
        "SLICE": Rule(),
        "SOFTMAX": Rule(limits=(_small_softmax,)),
        "SPACE_TO_DEPTH": Rule(),
        "SPLIT": Rule(limits=(_not_along_batch(0),)),
        "SQUARED_DIFFERENCE": Rule(14),
        "SQUEEZE": Rule(),
        "STRIDED_SLICE": Rule(limits=(_unit_strides,)),
        "SUB": Rule(),
        "SUM": Rule(13, (_BATCH_FREE,)),
        "TANH": Rule(),
        "TRANSPOSE": Rule(14),
        "TRANSPOSE_CONV": Rule(13),
        "UNIDIRECTIONAL_SEQUENCE_LSTM": Rule(14),
    }
)

_RELU6: Final = "use ReLU6"
# What to do about an operator that is not supported at all; the rest get a general word.
REMEDIES: Final = MappingProxyType(
    {
        "HARD_SWISH": "take MobileNetV2 in place of MobileNetV3, or use ReLU6",
        "LEAKY_RELU": f"{_RELU6}, or PReLU(shared_axes=[1, 2])",
        "ELU": _RELU6,
        "GELU": _RELU6,
        "RELU_0_TO_1": _RELU6,
        "DEQUANTIZE": "convert with integer output, as the int8 variant does; at the very end it costs little",
        "CAST": "give the pixels as they are, as the int8 variant does",
        "ARG_MAX": "leave it out and take the largest on the CPU",
        "DIV": "multiply by a constant instead",
        "PADV2": "pad with zeros",
        "MIRROR_PAD": "pad with zeros",
        "BATCH_MATMUL": "use dense layers or 1x1 convolutions",
        "SHAPE": "convert with a fixed batch of 1 and a fixed image size",
    }
)
ANY_REMEDY: Final = "replace the layer that it comes from; coral.ai/docs/edgetpu/models-intro lists what maps"
