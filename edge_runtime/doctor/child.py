"""Child process of the doctor: ``python -m edge_runtime.doctor.child QUESTION ARGUMENTS``.

import MODULE             its version
tiny ENGINE               open and run a tiny model in ``litert``, ``tflite-runtime`` or ``onnxruntime``
model PATH [VARIANT]      open and run a model, replay the golden inputs of its bundle, and time it

The answer is one JSON object, the last line of standard output. An exception ends the process with its traceback,
whose last line the parent shows.

Both take uint8 [1, 8, 8, 3] and give the mean of each channel, [1, 3]. The TFLite one is what
`edge_runtime.testing.write_tiny_model` builds; it stands here as bytes because a device lacks the library to build it.

    import MODULE             its version
    tiny ENGINE               open and run a tiny model in ``litert``, ``tflite-runtime`` or ``onnxruntime``
    model PATH [VARIANT]      open and run a model, replay the golden inputs of its bundle, and time it

The answer is one JSON object, the last line of standard output. An exception ends the process with its traceback, whose
last line the parent shows.
"""

from __future__ import annotations

import base64
import importlib
import json
import sys
import tempfile
import zlib
from pathlib import Path
from typing import Any

from edge_runtime.platform.childproc import die_with_parent

INPUT_SIDE_PX = 8

_TFLITE = (
    "c-n<gyKcfj5F9^1mT-"
    "a#7f4XJprDMDGAUA}qNJdpIpDySj6ozt%6vdRB%hT(ady{hpQ$)&&UgEmoxPm_SiLWwA?pznq(~4WLP$5z4S3}k!k-"
    "5O^!EvKLM%B$i5=1@Bt!&HV}9zo=KPa2RdzmP*6i|Zmz%1xB{VJ(9#=C~8`oPCHX4_zzEu1%Mm>GBriq?I`J4v7@yornd1~WcehH"
    ";&zmi_&c~Up`y(e3w+-"
    ")9uoWS?X1MQdVd26;sS$r1uqgN;B`WxT$r(Axbwau5LbsC#qISbt^W;zR|eG}eh0xj=7odep7lQ~+g>1j@+I^8^6UFKc5cU=4f6H"
    "+E{"
)
_ONNX = (
    "c-l3My$*sf6oqLi;d&!VZj3T%!pIxwM09p>bgTA;Gzc176MYsJ9#x_^e8b841E82q#kKXDx4<Pvw$T-"
    "ny0gCIYNwqqMkxI?6P=K_#;-w9!@6}j9@sq2yzfPkpwdrvr6^@5;$n(WGvADDTo&|IQr@<&<LZAf#~DaUQG)1!f$+4z-"
    "!@Hf41!<?gj<C{ntT9uz$3>"
)


def write_tiny(folder: Path, suffix: str) -> Path:
    """Write the model of a suffix, ``.tflite`` or ``.onnx``, into a folder."""
    path = folder / f"tiny{suffix}"
    path.write_bytes(zlib.decompress(base64.b85decode(_ONNX if suffix == ".onnx" else _TFLITE)))
    return path


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

    from edge_runtime.engines.base import EngineName, open_engine
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
