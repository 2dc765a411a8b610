"""The process in which a doctor imports native libraries: ``python -m edge_runtime.doctor.child QUESTION ARGUMENTS``.

    import MODULE             its version
    tiny ENGINE               open and run a tiny model in ``litert``, ``tflite-runtime`` or ``onnxruntime``
    model PATH [VARIANT]      open and run a model, replay the golden inputs of its bundle, and time it

The answer is one JSON object, the last line of standard output. An exception ends the process with its traceback, whose
last line the parent shows.
"""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from edge_runtime.child import die_with_parent


def main() -> None:
    """Answer the question on the command line."""
    die_with_parent()
    question, *arguments = sys.argv[1:]
    answers = {"import": _import, "tiny": _tiny, "model": _model}
    print(json.dumps(answers[question](*arguments), allow_nan=False))


def _import(name: str) -> dict[str, Any]:
    module = importlib.import_module(name)
    return {"version": str(getattr(module, "__version__", ""))}


def _tiny(engine_name: str) -> dict[str, Any]:
    import numpy as np

    from edge_runtime.doctor.tiny_models import INPUT_SIDE_PX, write_tiny
    from edge_runtime.engines.opening import EngineName, open_engine
    from edge_runtime.errors import EngineError

    color_rgb = (200, 100, 50)
    image_nhwc_rgb_u8 = np.full((1, INPUT_SIDE_PX, INPUT_SIDE_PX, 3), color_rgb, np.uint8)
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        suffix = ".onnx" if engine_name == EngineName.ONNXRUNTIME.value else ".tflite"
        engine = open_engine(write_tiny(Path(folder), suffix), EngineName(engine_name))
        means = engine.invoke(image_nhwc_rgb_u8)
        engine.close()
    if np.abs(means.astype(np.float64) - color_rgb).max() > 1:
        raise EngineError(f"computes wrongly: the mean of {list(color_rgb)} is not {means.tolist()[0]}")
    return {"version": engine.version}


def _model(path: str, variant: str | None = None) -> dict[str, Any]:
    from edge_runtime.doctor.replay import replay

    return replay(Path(path), variant)


if __name__ == "__main__":
    main()
