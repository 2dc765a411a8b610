"""Child process that exports one model to float32 TFLite and ONNX, each from one frozen graph, with TensorFlow.

``python -m convert.export.child JOB.json`` prints ``float32`` and ``onnx-float32`` when that file is complete.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np

from convert import children
from convert.export.loading import Loaded, first_line, pixel_graph
from convert.options import InputRange, ModelColor, ModelOutput
from convert.tflite_model import unpack_model
from edge_runtime.contract import Head, Variant
from edge_runtime.errors import EdgeKitError, ModelError, OutputError
from edge_runtime.platform.process import collecting_later

ONNX_OPSET = 18

_INPUT, _OUTPUT = "image", "probabilities"
_NUMBER = re.compile(r"__\d+")
# Name in the converter's error about an operator that TensorFlow Lite lacks: tf.Name {...}, or 'tf.Name' op.
_OPERATOR = re.compile(r"\btf\.([A-Z][A-Za-z0-9_]*)")


def main() -> None:
    """Read the job named on the command line and carry it out."""
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # The pooling allocator saves returning memory to the system and requesting it again for every batch.
    os.environ.setdefault("TF_CPU_ALLOCATOR_USE_BFC", "1")
    job = children.read_message(Path(sys.argv[1]), children.ExportJob)
    try:
        children.write_message(Path(job.work_dir) / children.EXPORTED_FILE, export(job))
    except OSError as error:
        children.refuse(
            Path(job.work_dir), OutputError(f"{job.work_dir}: cannot be written ({error.strerror or error})")
        )
    except EdgeKitError as error:
        children.refuse(Path(job.work_dir), error)
    except MemoryError:
        children.refuse(
            Path(job.work_dir), ModelError(f"{job.shown}: needs more memory than a model of its size should")
        )


def export(job: children.ExportJob) -> children.Exported:
    """Load the model, run it on the images, and write the requested files.

    Raises:
        ModelError: The model cannot be loaded or converted, or is not a classifier.
    """
    # Imported here, after main has set the environment.
    with collecting_later():
        import tensorflow as tf

        from convert.export.loading import answer, load

    work_dir = Path(job.work_dir)
    loaded = load(job)
    for name in (children.CHECK_FILE, children.GOLDEN_INPUT_FILE):
        np.save(work_dir / f"keras-{name}", answer(job, loaded, np.load(work_dir / name)))
    export_tflite(job, loaded, work_dir / children.BASE_TFLITE)
    print(Variant.FLOAT32.value, flush=True)
    opset, onnx_failure = None, ""
    if job.onnx:
        try:
            opset = export_onnx(job, loaded, work_dir / children.BASE_ONNX)
            print(Variant.ONNX_FLOAT32.value, flush=True)
        except ModelError as error:
            # TFLite does not depend on ONNX.
            onnx_failure = str(error)
    return children.Exported(
        keras=loaded.versions,
        converter=f"tensorflow {tf.__version__}",
        onnx_converter=f"tf2onnx {importlib.metadata.version('tf2onnx')}" if job.onnx else None,
        opset=opset,
        onnx_failure=onnx_failure,
    )


def frozen_function(job: children.ExportJob, loaded: Loaded, batch: int | None) -> Any:
    """Freeze the model to a graph of constants: uint8 [batch, height, width, 3] RGB to float32 probabilities.

    Freezing here rather than inside TensorFlow Lite's converter keeps variable operators out of the file, keeps the
    names of input and output, and takes a third of the time (Keras 3 models, TensorFlow 2.21).

    Raises:
        ModelError: The output depends on more than constants and the image, or the model does not fit into a graph.
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    @tf.function(autograph=False)
    def serve(image: Any) -> Any:
        outputs = tf.cast(loaded.call(_model_input(job, loaded, image)), tf.float32)
        if job.output is ModelOutput.LOGITS:
            outputs = tf.math.sigmoid(outputs) if job.head is Head.SIGMOID else tf.nn.softmax(outputs)
        return tf.identity(outputs, name=_OUTPUT)

    signature = tf.TensorSpec([batch, *job.input.shape_hwc], tf.uint8, name=_INPUT)
    try:
        return convert_variables_to_constants_v2(serve.get_concrete_function(signature))
    except (ValueError, TypeError, RuntimeError, NotImplementedError, tf.errors.OpError) as error:
        if "Assign" in str(error):
            raise ModelError(
                f"{job.shown}: changes a variable at every call, as random augmentation layers do; "
                "export it without its augmentation layers"
            ) from error
        raise ModelError(f"{job.shown}: cannot become a graph of constants ({first_line(error)})") from error


def export_tflite(job: children.ExportJob, loaded: Loaded, destination: Path) -> None:
    """Write the float32 model: uint8 [1, height, width, 3] in, float32 probabilities out, builtin operators only.

    Raises:
        ModelError: TensorFlow Lite lacks an operator of the model.
    """
    import tensorflow as tf
    from tensorflow.lite.python.convert import ConverterError

    converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen_function(job, loaded, batch=1)])
    try:
        content = converter.convert()
    except (ConverterError, ValueError, RuntimeError) as error:
        text = str(error)
        if "Flex" in text or "Custom ops" in text or "not supported" in text:
            raise _lacks_operators(job, _OPERATOR.findall(text)) from error
        raise ModelError(f"{job.shown}: cannot be converted to TensorFlow Lite ({first_line(error)})") from error
    custom = [code.customCode.decode() for code in unpack_model(content).operatorCodes if code.customCode]
    if custom:
        raise _lacks_operators(job, custom)
    destination.write_bytes(content)


def export_onnx(job: children.ExportJob, loaded: Loaded, destination: Path) -> int:
    """Write the float32 model with an open batch and named input and output, check it in full, and return its opset.

    Raises:
        ModelError: The model cannot be expressed, or the result is not valid ONNX.
    """
    import onnx
    import tf2onnx

    # From the frozen graph: tf2onnx's Keras function makes an input of each constant of a Normalization layer.
    frozen = frozen_function(job, loaded, batch=None)
    try:
        proto, _ = tf2onnx.convert.from_graph_def(
            frozen.graph.as_graph_def(),
            input_names=[frozen.inputs[0].name],
            output_names=[frozen.outputs[0].name],
            opset=ONNX_OPSET,
        )
        _rename(proto.graph, proto.graph.input[0], _INPUT)
        _rename(proto.graph, proto.graph.output[0], _OUTPUT)
        _renumber(proto.graph)
        for tensor in (proto.graph.input[0], proto.graph.output[0]):
            tensor.type.tensor_type.shape.dim[0].dim_param = "batch"
        onnx.checker.check_model(proto, full_check=True)
        onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True, data_prop=True)
    except (
        *(ValueError, TypeError, KeyError, RuntimeError, NotImplementedError),
        *(onnx.checker.ValidationError, onnx.shape_inference.InferenceError),
    ) as error:
        raise ModelError(f"{job.shown}: cannot be converted to ONNX ({first_line(error)})") from error
    destination.write_bytes(proto.SerializeToString(deterministic=True))
    return ONNX_OPSET


def _model_input(job: children.ExportJob, loaded: Loaded, image: Any) -> Any:
    import tensorflow as tf

    if loaded.dtype == "uint8" and job.input_range is InputRange.BYTE and job.color is ModelColor.RGB:
        return image
    pixels = pixel_graph(image, job.input_range, job.color)
    # Rounded as in NumPy for a model that takes integers; only grey has fractions.
    return tf.cast(tf.round(pixels) if loaded.dtype == "uint8" else pixels, loaded.dtype)


def _lacks_operators(job: children.ExportJob, operators: list[str]) -> ModelError:
    named = ", ".join(sorted(set(operators))[:8]) or "an unnamed operator"
    return ModelError(
        f"{job.shown}: TensorFlow Lite has no builtin for {named}, and an export that needs Flex or custom operators "
        "would not run on a device; replace that layer"
    )


def _renumber(graph: Any) -> None:
    """Number tf2onnx's names by first use and sort the constants, so that each export gives the same bytes.

    tf2onnx numbers and orders them by object address, and keeps an arbitrary name of equal constants.
    """
    order: dict[str, int] = {}
    constants = {tensor.name for tensor in graph.initializer}

    def name(old: str) -> str:
        if old in constants and _NUMBER.search(old):
            return f"constant__{order.setdefault(old, len(order))}"
        return _NUMBER.sub(lambda match: f"__{order.setdefault(match[0], len(order))}", old)

    for node in graph.node:
        node.name = name(node.name)
        for field in (node.input, node.output):
            field[:] = [name(tensor) for tensor in field]
    for entry in (*graph.initializer, *graph.value_info):
        entry.name = name(entry.name)
    in_order = sorted(graph.initializer, key=lambda tensor: str(tensor.name))
    del graph.initializer[:]
    graph.initializer.extend(in_order)


def _rename(graph: Any, tensor: Any, name: str) -> None:
    old, tensor.name = tensor.name, name
    for node in graph.node:
        node.output[:] = [name if output == old else output for output in node.output]
        node.input[:] = [name if value == old else value for value in node.input]


if __name__ == "__main__":
    main()
