"""Child process that exports one model to float32 TFLite and ONNX with TensorFlow.

``python -m convert.export.child JOB.json`` prints ``float32`` and ``onnx-float32`` when that file is complete.

``python -m convert.export.child JOB.json`` prints ``float32`` and ``onnx-float32`` when that file is complete.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
from pathlib import Path

import numpy as np

from convert.children import BASE_ONNX, BASE_TFLITE, CHECK_FILE, GOLDEN_INPUT_FILE, refuse
from convert.messages import EXPORTED_FILE, Exported, ExportJob
from edge_runtime.contract import Variant
from edge_runtime.errors import EdgeKitError, ModelError, OutputError
from edge_runtime.platform.childproc import die_with_parent
from edge_runtime.platform.garbage import collecting_later
from edge_runtime.strict import from_mapping, to_mapping


def main() -> None:
    """Read the job named on the command line and carry it out."""
    die_with_parent()
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # The pooling allocator: many images spend less time giving memory back to the system and taking it again.
    os.environ.setdefault("TF_CPU_ALLOCATOR_USE_BFC", "1")
    path = Path(sys.argv[1])
    job = from_mapping(ExportJob, json.loads(path.read_text()), path.name)
    try:
        exported = export(job)
        (Path(job.work_dir) / EXPORTED_FILE).write_text(json.dumps(to_mapping(exported)))
    except OSError as error:
        refuse(Path(job.work_dir), OutputError(f"{job.work_dir}: cannot be written ({error.strerror or error})"))
    except EdgeKitError as error:
        refuse(Path(job.work_dir), error)


def export(job: ExportJob) -> Exported:
    """Load the model, ask it about the images, and write what is wanted.

    Raises:
        ModelError: The model cannot be loaded or converted, or is not a classifier.
    """
    # Only now, under the environment that main has set.
    with collecting_later():
        import tensorflow as tf

        from convert.export.graph import export_onnx, export_tflite
        from convert.export.loading import answer, load

    work_dir = Path(job.work_dir)
    loaded = load(job)
    for name in (CHECK_FILE, GOLDEN_INPUT_FILE):
        np.save(work_dir / f"keras-{name}", answer(job, loaded, np.load(work_dir / name)))
    export_tflite(job, loaded, work_dir / BASE_TFLITE)
    print(Variant.FLOAT32.value, flush=True)
    opset, onnx_failure = None, ""
    if job.onnx:
        try:
            opset = export_onnx(job, loaded, work_dir / BASE_ONNX)
            print(Variant.ONNX_FLOAT32.value, flush=True)
        except ModelError as error:
            # TFLite does not depend on it.
            onnx_failure = str(error)
    return Exported(
        keras=loaded.versions,
        converter=f"tensorflow {tf.__version__}",
        onnx_converter=f"tf2onnx {importlib.metadata.version('tf2onnx')}" if job.onnx else None,
        opset=opset,
        onnx_failure=onnx_failure,
    )


if __name__ == "__main__":
    main()
