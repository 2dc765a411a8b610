"""Exports one Keras model to every wanted variant; runs in a process of its own, since it imports TensorFlow.

``python -m convert.export_child JOB.json`` prints the name of each variant when its file is complete.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from convert.job import CHECK_FILE, GOLDEN_INPUT_FILE, REPRESENTATIVE_FILE, ExportJob, read_json
from edge_runtime.child import die_with_parent
from edge_runtime.contract import InputSpec, Variant

ONNX_OPSET = 18
_BATCH_SIZE = 32


def main() -> None:
    """Read the job named on the command line and carry it out."""
    die_with_parent()
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # The pooling allocator: calibration spends less time giving memory back to the system and taking it again.
    os.environ.setdefault("TF_CPU_ALLOCATOR_USE_BFC", "1")
    job = read_json(Path(sys.argv[1]), ExportJob)
    import keras

    model = keras.saving.load_model(job.model, compile=False, safe_mode=True)
    work_dir = Path(job.work_dir)
    for name in (CHECK_FILE, GOLDEN_INPUT_FILE):
        images_nhwc_rgb_u8 = np.load(work_dir / name)
        probabilities = model.predict(images_nhwc_rgb_u8.astype(np.float32), batch_size=_BATCH_SIZE, verbose=0)
        np.save(work_dir / f"keras-{name}", probabilities)
    representative = np.load(work_dir / REPRESENTATIVE_FILE)
    for variant in job.variants:
        destination = work_dir / variant.file_name(job.model_name)
        _EXPORTERS[variant](model, job.input, representative, destination)
        print(variant.value, flush=True)


def _export_float32(model: Any, spec: InputSpec, _representative: np.ndarray, destination: Path) -> None:
    converter = _converter(model, spec, "uint8")
    destination.write_bytes(converter.convert())


def _export_int8(model: Any, spec: InputSpec, representative: np.ndarray, destination: Path) -> None:
    """Full-integer quantization: per-channel int8 weights, int8 activations, uint8 input and output."""
    import tensorflow as tf

    converter = _converter(model, spec, "float32")
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: _calibration_batches(representative)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.uint8
    converter.inference_output_type = tf.uint8
    destination.write_bytes(converter.convert())


def _export_onnx(model: Any, spec: InputSpec, _representative: np.ndarray, destination: Path) -> None:
    import onnx
    import tf2onnx

    # From the frozen graph: tf2onnx's own way makes an input of each constant that a Normalization layer holds.
    frozen = _frozen_function(model, spec, "uint8", batch=None)
    proto, _ = tf2onnx.convert.from_graph_def(
        frozen.graph.as_graph_def(),
        input_names=[frozen.inputs[0].name],
        output_names=[frozen.outputs[0].name],
        opset=ONNX_OPSET,
    )
    _rename(proto.graph, proto.graph.input[0], "image")
    _rename(proto.graph, proto.graph.output[0], "probabilities")
    onnx.save(proto, str(destination))


def _converter(model: Any, spec: InputSpec, dtype: str) -> Any:
    import tensorflow as tf

    return tf.lite.TFLiteConverter.from_concrete_functions([_frozen_function(model, spec, dtype, batch=1)])


def _frozen_function(model: Any, spec: InputSpec, dtype: str, batch: int | None) -> Any:
    """The model as a graph of constants.

    Freezing here rather than inside TensorFlow Lite's converter keeps variable operators out of the file, keeps the
    names of input and output, and takes a third of the time (Keras 3 models, TensorFlow 2.21).
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    signature = tf.TensorSpec([batch, *spec.shape_hwc], tf.as_dtype(dtype), name="image")
    concrete = _serving_function(model, dtype).get_concrete_function(signature)
    return convert_variables_to_constants_v2(concrete)


def _serving_function(model: Any, dtype: str) -> Any:
    """The model as a function of pixels 0..255: uint8 for float variants, float32 for calibration's sake."""
    import tensorflow as tf

    @tf.function(autograph=False)
    def serve(image: Any) -> Any:
        pixels = tf.cast(image, tf.float32) if dtype == "uint8" else image
        return tf.identity(model(pixels, training=False), name="probabilities")

    return serve


def _calibration_batches(representative: np.ndarray) -> Iterator[list[np.ndarray]]:
    """Batches of one picture, float32 0..255, preceded by the two extremes.

    Black and white pin the input's range to exactly 0..255, hence its scale to 1 and its zero point to 0.
    """
    pinned = representative[0].astype(np.float32)
    pinned[0, 0], pinned[0, 1] = 0.0, 255.0
    yield [pinned[np.newaxis]]
    for image in representative[1:]:
        yield [image[np.newaxis].astype(np.float32)]


def _rename(graph: Any, tensor: Any, name: str) -> None:
    old, tensor.name = tensor.name, name
    for node in graph.node:
        node.output[:] = [name if output == old else output for output in node.output]
        node.input[:] = [name if value == old else value for value in node.input]


_EXPORTERS: dict[Variant, Callable[[Any, InputSpec, np.ndarray, Path], None]] = {
    Variant.FLOAT32: _export_float32,
    Variant.INT8: _export_int8,
    Variant.ONNX_FLOAT32: _export_onnx,
}

if __name__ == "__main__":
    main()
