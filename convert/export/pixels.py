"""Input normalization from uint8 RGB to the model's own input, in NumPy and as a TensorFlow graph.

The original model is asked with the numpy way, the exports hold the graph's way, and the gate compares the two.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from convert.options import InputRange, ModelColor

# ITU-R BT.601, as JPEG, Pillow's convert("L") and OpenCV's cvtColor have it.
LUMA_RGB = (0.299, 0.587, 0.114)


def prepare_pixels(
    images_nhwc_rgb_u8: NDArray[np.uint8], input_range: InputRange, color: ModelColor
) -> NDArray[np.float32]:
    """Scale and reorder in float32.

    Args:
        images_nhwc_rgb_u8: uint8 [n, height, width, 3], RGB.
        input_range: What 0 and 255 become.
        color: Channel order, or one channel of grey.

    Returns:
        float32 [n, height, width, 3], or [n, height, width, 1] for grey.
    """
    pixels = images_nhwc_rgb_u8.astype(np.float32)
    if color is ModelColor.BGR:
        pixels = np.ascontiguousarray(pixels[..., ::-1])
    elif color is ModelColor.GRAY:
        pixels = pixels @ np.array(LUMA_RGB, np.float32)[:, np.newaxis]
    if input_range is InputRange.UNIT:
        pixels = pixels / np.float32(255.0)
    elif input_range is InputRange.SIGNED:
        pixels = pixels / np.float32(127.5) - np.float32(1.0)
    return pixels


def pixel_graph(image: Any, input_range: InputRange, color: ModelColor) -> Any:
    """The same as TensorFlow operators: float32 [batch, height, width, channels] of a uint8 tensor.

    Another channel order or grey is a 1x1 convolution that scales too: one operator that every runtime and the Edge
    TPU have, whose weights are one number a channel and so lose nothing when they become int8. Reversing an axis would
    be an operator that runs on the CPU only.
    """
    import tensorflow as tf

    pixels = tf.cast(image, tf.float32)
    factor, offset = {
        InputRange.BYTE: (1.0, 0.0),
        InputRange.UNIT: (1.0 / 255.0, 0.0),
        InputRange.SIGNED: (1.0 / 127.5, -1.0),
    }[input_range]
    if color is not ModelColor.RGB:
        mixing = np.eye(3)[:, ::-1] if color is ModelColor.BGR else np.array(LUMA_RGB)[:, np.newaxis]
        kernel_hwio = tf.constant((mixing * factor)[np.newaxis, np.newaxis], tf.float32)
        mixed = tf.nn.conv2d(pixels, kernel_hwio, strides=1, padding="VALID")
        # A vector, which every converter takes for the convolution's own bias.
        return tf.nn.bias_add(mixed, tf.fill([mixed.shape[-1]], offset)) if offset else mixed
    scaled = pixels * factor if factor != 1.0 else pixels
    return scaled + offset if offset else scaled
