"""A TFLite and an ONNX model of a few hundred bytes, to see whether a runtime opens and runs anything at all.

Both take uint8 [1, 8, 8, 3] and give the mean of each channel, [1, 3]. The TFLite one is what
`edge_runtime.testing.write_tiny_model` builds; it stands here as bytes because a device lacks the library to build it.
"""

from __future__ import annotations

import base64
import zlib
from pathlib import Path

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
