"""Table of operator versions by TensorFlow Lite release, and what LiteRT has beyond.

Sources:
    `RELEASES` holds the facts of ``tflite/tools/versioning/runtime_version.cc`` (LiteRT, commit 05215c2), the table
    from which the converter writes ``min_runtime_version``. The nth release belongs to the nth version of the operator.

    The operators that a runtime registers were measured: a model of a single operator and version, for every operator
    of the schema and versions 1 to 16, was opened in tflite-runtime 2.14.0 and in ai-edge-litert 2.3.0.
    tflite-runtime 2.14.0 has exactly those versions that `RELEASES` dates to 2.14.0 or before, in agreement with
    TensorFlow's ``core/kernels/register.cc`` of that time. LiteRT 2.3.0 has all of `RELEASES` but `LITERT_LACKS`, and
    up to `LITERT_NEWEST` of the operators named there. The tests measure again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

LITERT_RELEASE: Final = "2.3.0"  # the LiteRT that was measured
LAST_TFLITE_RUNTIME: Final = "2.14.0"

# Custom operators that both runtimes bring (register.cc, AddCustom).
BUNDLED_CUSTOM: Final = frozenset({"AudioSpectrogram", "Mfcc", "NumericVerify", "TFLite_Detection_PostProcess"})


def _read() -> tuple[dict[str, str], dict[str, int]]:
    releases, newest = {}, {}
    for line in Path(__file__).with_name("operator_versions.txt").read_text(encoding="ascii").splitlines():
        if not line.startswith("#"):
            name, _, rest = line.partition(" ")
            releases[name], _, more = rest.partition(" litert=")
            if more:
                newest[name] = int(more)
    return releases, newest


# Releases by operator, "-" where no release has that version; and the newest version that LiteRT 2.3.0 has of those
# operators of which it has more.
RELEASES, LITERT_NEWEST = _read()
LITERT_LACKS: Final = frozenset({"STABLEHLO_CBRT"})
