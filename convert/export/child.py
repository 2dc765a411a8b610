"""Child process that exports one model to float32 TFLite and ONNX with TensorFlow.

``python -m convert.export.child JOB.json`` prints ``float32`` and ``onnx-float32`` when that file is complete.
"""

from __future__ import annotations

import importlib.metadata
import os
import sys
from pathlib import Path

import numpy as np

from convert.children import refuse
from convert.messages import (
    BASE_ONNX,
    BASE_TFLITE,
    CHECK_FILE,
    EXPORTED_FILE,
    GOLDEN_INPUT_FILE,
    Exported,
    ExportJob,
    read_message,
    write_message,
)
from edge_runtime.contract import Variant
from edge_runtime.errors import EdgeKitError, ModelError, OutputError
from edge_runtime.platform.childproc import die_with_parent
from edge_runtime.platform.process import collecting_later


def main() -> None:
    """Read the job named on the command line and carry it out."""
    die_with_parent()
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # The pooling allocator saves returning memory to the system and requesting it again for every batch.
    os.environ.setdefault("TF_CPU_ALLOCATOR_USE_BFC", "1")
    job = read_message(Path(sys.argv[1]), ExportJob)
    try:
        write_message(Path(job.work_dir) / EXPORTED_FILE, export(job))
    except OSError as error:
        refuse(Path(job.work_dir), OutputError(f"{job.work_dir}: cannot be written ({error.strerror or error})"))
    except EdgeKitError as error:
        refuse(Path(job.work_dir), error)


def export(job: ExportJob) -> Exported:
    """Load the model, run it on the images, and write the requested files.

    Raises:
        ModelError: The model cannot be loaded or converted, or is not a classifier.
    """
    # Imported here, after main has set the environment.
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
            # TFLite does not depend on ONNX.
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
