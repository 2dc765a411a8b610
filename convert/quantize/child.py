"""Child process that builds every variant from ``base.tflite`` and ``base.onnx``; never imports TensorFlow.

``python -m convert.quantize.child JOB.json`` prints the name of each variant when its file is complete, and writes
``quantized.json`` at the end.
"""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path

from convert.children import QUANTIZED_FILE, BuiltVariant, Quantized, QuantizeJob, read_message, write_message
from convert.quantize.build import VariantBuilder
from edge_runtime.contract import Variant
from edge_runtime.errors import EdgeKitError

# Errors of the tools about an unknown layer; a full disk and a lack of memory are not among them.
_ERRORS = (EdgeKitError, ValueError, TypeError, LookupError, RuntimeError, AttributeError)
_LONGEST_REASON = 300


def main() -> None:
    """Read the job named on the command line and carry it out."""
    # ai-edge-quantizer logs through absl and draws progress bars; the child's standard error is a log file.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    job = read_message(Path(sys.argv[1]), QuantizeJob)
    builder = VariantBuilder(job)
    made: list[BuiltVariant] = []
    for variant in job.variants:
        made.append(_build(builder, variant))
        print(variant.value, flush=True)
    int8_works = any(entry.variant is Variant.INT8 and not entry.failure for entry in made)
    points = builder.points() if int8_works and job.settings.points else ()
    write_message(Path(job.work_dir) / QUANTIZED_FILE, Quantized(tuple(made), points))
    if "tensorflow" in sys.modules:
        raise SystemExit("the quantizing process imported TensorFlow, which it must do without")


def _build(builder: VariantBuilder, variant: Variant) -> BuiltVariant:
    """Build one variant; an error about an unknown layer is recorded and does not stop the other variants."""
    try:
        return builder.build(variant)
    except _ERRORS as error:
        traceback.print_exc()
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        return BuiltVariant(variant, (), (), failure=f"cannot be made of this model: {reason[:_LONGEST_REASON]}")


if __name__ == "__main__":
    main()
