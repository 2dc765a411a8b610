"""Makes every variant from ``base.tflite`` and ``base.onnx``; a process of its own that never imports TensorFlow.

``python -m convert.quantize.child JOB.json`` prints the name of each variant when its file is complete, and writes
``quantized.json`` at the end.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from convert.job import read_json, write_json
from convert.quantize.job import QUANTIZED_FILE, Made, Quantized, QuantizeJob
from convert.quantize.workshop import Workshop
from edge_runtime.child import die_with_parent


def main() -> None:
    """Read the job named on the command line and carry it out."""
    die_with_parent()
    # ai-edge-quantizer logs through absl and draws progress bars; the child's standard error is a log file.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    job = read_json(Path(sys.argv[1]), QuantizeJob)
    workshop = Workshop(job)
    made: list[Made] = []
    for variant in job.variants:
        made.append(workshop.make(variant))
        print(variant.value, flush=True)
    write_json(Path(job.work_dir) / QUANTIZED_FILE, Quantized(tuple(made), workshop.points()))
    if "tensorflow" in sys.modules:
        raise SystemExit("the quantizing process imported TensorFlow, which it must do without")


if __name__ == "__main__":
    main()
